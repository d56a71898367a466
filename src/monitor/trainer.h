/*
 * trainer.h - one trainer as its monitor sees it: the front of its queue, its
 * end, its return, its silence.
 */
#ifndef GRADECHO_MONITOR_TRAINER_H
#define GRADECHO_MONITOR_TRAINER_H

#include "consumer.h"
#include "front.h"

struct ge_trainer {
    ge_consumer *consumer;
    uint32_t rank;
    struct ge_front front;
    struct ge_handed_sample sample; /* at the front, if it is ready */
    uint64_t discarded;             /* samples that others did not have */
    bool strange;         /* its successor does not fit; that was told */
    double kept_since;    /* s, others wait for it; 0: they do not */
    bool silence_is_told; /* of this time */
};

/* What a monitor's trainers have in common. */
struct ge_trainers_facts {
    const char *session; /* borrowed for the run */
    uint64_t every;      /* steps wanted */
    int64_t from;        /* no step below this is wanted any more */
    bool stop_on_loss;   /* on_rank_loss: stop */
    double silence;      /* s, after which it is told */
};

/* Bring the trainer's front sample up, if it has one, and wait up to `patience`
 * seconds for it. Steps increase, also where a trainer's successor begins with
 * earlier ones. A loss is told. */
enum ge_sight ge_trainer_look(struct ge_trainer *trainer,
                              const struct ge_trainers_facts *facts,
                              double patience);

/* Done with the sample at the front, if there is one. */
void ge_trainer_give_back(struct ge_trainer *trainer);

/* A trainer that died may have been started again, under the same name. */
void ge_trainer_meet_successor(struct ge_trainer *trainer,
                               const struct ge_trainers_facts *facts);

/* It lives and has nothing, and others have: told once, after a while, for as
 * long as it lasts. */
void ge_trainer_is_awaited(struct ge_trainer *trainer,
                           const struct ge_trainers_facts *facts);

/* The same layers in the same order. */
bool ge_trainer_same_layers(const struct ge_geometry *a,
                            const struct ge_geometry *b);

/* Seconds of the clock that the above go by. */
double ge_trainer_now(void);

#endif
