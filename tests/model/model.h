/*
 * model.h - three trainers, their segments and their monitors, as a machine
 * whose every step is one action of one process.
 *
 * What decides is the code that runs: ge_front_see(), ge_front_add(),
 * ge_front_is_older(), ge_agree_vote(), ge_agree_decide(), ge_agree_meet(),
 * called through `struct protocol` so that a test can put a mistake in. What is
 * modelled is what surrounds it: the ring of slots, the liveness of processes,
 * the merge of the ballots. Each access to shared memory on which a decision
 * hangs is an action of its own; orders of memory are the business of the
 * handoff's tests.
 */
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "front.h"

enum { TRAINERS = 3, SLOTS = 2, STEPS_MAX = 32, WHY_MAX = 160 };

enum { FOREVER = 200 }; /* later than any step */

enum life { LIVE, CLOSED, DEAD };

/* How far a monitor is with one trainer in the look that it takes now. */
enum look { UNSEEN, SAW_ALIVE, SAW_GONE, SEEN };

/* A trainer, its newest segment, and the segment that its monitor holds: the
 * same one unless it came back under a monitor that holds the old one. */
struct trainer {
    uint32_t published; /* steps handed over in the segment held */
    uint32_t taken;     /* those whose slots were given back */
    uint8_t next;       /* step that it comes to */
    uint8_t life;       /* enum life */
    uint8_t held;       /* enum life, as the segment held tells it */
    uint8_t every;      /* sample_every of its newest segment, ... */
    bool wanted;        /* ... and attached */
    bool begun;         /* it is writing a sample of step `next` */
    bool back;          /* its newest segment is one that nobody holds */
    bool listened;      /* ge_consumer_enable() is done */
    uint8_t look;       /* enum look */
    bool live, ready;   /* struct ge_front, kept by its monitor */
    uint8_t step;
    uint8_t from; /* sample_from of the segment held */
    uint8_t spare[3];
};

enum phase { ABSENT, ATTACHING, LOOKING, VOTED, MEASURING, ADVANCING, ENDING };

struct monitor {
    uint8_t phase;     /* enum phase */
    bool closed, stop; /* struct ge_ending */
};

/* No padding: states are compared as bytes. */
struct state {
    struct trainer trainer[TRAINERS];
    struct monitor monitor[TRAINERS];
    uint8_t step;                    /* of the verdict acted on, FOREVER */
    uint8_t last;                    /* 1 + step last measured by this job */
    uint8_t jobs;                    /* monitor jobs started so far */
    uint8_t deaths, restarts, skips; /* so many are left */
    bool job;                        /* there is a monitor job */
    bool missed;                     /* struct ge_meeting, ... */
    uint8_t ahead;                   /* ... the same at all monitors */
    uint8_t spare[6];
};
_Static_assert(sizeof(struct state) == 96, "no padding");

struct setup {
    const char *name;
    int steps;           /* of the training */
    int owner[TRAINERS]; /* monitor of each trainer, not decreasing */
    int every[2];        /* sample.every of the first and later jobs */
    bool stop_on_loss;
    int jobs; /* monitor jobs in all; all but the last may be killed */
    int deaths, restarts;
    int skips; /* steps for which a trainer does not ask */
    int ahead; /* struct ge_meeting, when a job starts */
    int lead;  /* most steps that a trainer may be ahead of another live one */
    bool every_order; /* see model_settled() */
};

struct protocol {
    void (*see)(struct ge_front *, enum ge_sight, int64_t, struct ge_ending *);
    void (*add)(const struct ge_front *, const struct ge_ending *,
                struct ge_view *);
    bool (*is_older)(const struct ge_front *, int64_t);
    void (*vote)(const struct ge_view *, struct ge_ballot *);
    void (*decide)(const struct ge_ballot *, struct ge_verdict *);
    void (*meet)(struct ge_meeting *, struct ge_verdict *);
    /* Mistakes that are not in one of these. */
    bool looks_once;      /* not again after it saw that the trainer is gone */
    bool decides_alone;   /* each monitor by its own ballot */
    bool takes_any_step;  /* also what an earlier job had asked for */
    bool takes_old_steps; /* also those below what was agreed on */
    bool releases_early;  /* the slot goes back when the sample is seen */
};
extern const struct protocol real_protocol;

struct model {
    struct setup setup;
    struct protocol protocol;
    char why[WHY_MAX]; /* the property that was broken; "" if none */
    unsigned long long verdicts[GE_VERDICT_FAIL]; /* so many, by action */
};

/* One action: what, by which trainer or monitor. */
enum what {
    BEGIN,
    SKIP,
    PUBLISH,
    CLOSE,
    DIE,
    COME_BACK,
    JOB_STARTS,
    JOB_IS_KILLED,
    ENABLE,
    LOOK,
    MERGE,
    ACT,
    WHATS
};
enum { ACTIONS_MAX = WHATS * TRAINERS };
struct action {
    uint8_t what, who;
};

void model_start(const struct model *model, struct state *state);

/* Those that are possible now. \return how many */
int model_actions(const struct model *model, const struct state *state,
                  struct action *list);

/* The number of an action in the list that may as well come first, else -1:
 * its result is settled, nobody but its own process can tell whether it is
 * done, and no property would have been broken later that is not now. */
int model_settled(const struct model *model, const struct state *state,
                  const struct action *list, int count);

/* Do one that is possible. False if that breaks a property: model->why. */
bool model_do(struct model *model, struct state *state, struct action action);

/* Forget what can no longer make a difference, and which is which of trainers
 * that play the same part. */
void model_reduce(const struct model *model, struct state *state);

/* What must be true when the monitors do this. */
bool model_may(struct model *model, const struct state *state,
               const struct ge_verdict *verdict);

/* If the trainers stand still, the monitors come to rest; if they go on in
 * step, they are measured again. False: model->why. */
bool model_goes_on(struct model *model, const struct state *state);

/* True if nothing is left to be done: without actions, that is no deadlock. */
bool model_is_over(const struct state *state);

/* For people: an action and the state after it. \param text  [size] */
void model_tell(const struct state *after, struct action action, char *text,
                size_t size);

#endif
