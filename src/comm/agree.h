/*
 * agree.h - how the monitors decide which step to measure next.
 *
 * Pure protocol, no MPI: each monitor puts what it sees into a ballot, the
 * ballots are merged element-wise by maximum (ge_comm_max), and every monitor
 * reads the same verdict out of the same merged ballot. Since all take the
 * same branch, no collective can be skipped by one.
 *
 * The rule: a step is measured only if it is at the front of the queue of
 * every live trainer. Where the fronts differ (a trainer dropped a sample, or
 * started late), all move up to the newest front and vote again, even while
 * others have nothing: a trainer's front only grows, so that what is older can
 * not be complete any more, and its slot is needed for what may be. Moving up
 * discards a sample, so votes always end.
 *
 * Where steps are shorter than a vote, moving up can go on for ever: by the
 * time that all look for the newest front, the trainers are past it. So
 * monitors that missed each other twice meet further ahead, at a step that no
 * trainer has reached: until then nothing is asked for (ge_agree_meet()).
 *
 * A trainer that died is not waited for: the others' samples are measured with
 * fewer replicas. A trainer that closed in order says that the training is
 * over: what the others still hand over is incomplete and is discarded.
 */
#ifndef GRADECHO_COMM_AGREE_H
#define GRADECHO_COMM_AGREE_H

#include <stdbool.h>
#include <stdint.h>

#include "gradecho/status.h"

/* What one monitor sees of its trainers. Neither ready nor waiting: all of
 * them ended. */
struct ge_view {
    bool ready;             /* samples are at the front of trainers here: */
    int64_t oldest, newest; /* their steps, all in this range; >= 0 */
    bool waiting;           /* a live trainer here has nothing yet */
    bool closed;            /* a trainer here ended in order */
    bool stop;              /* somebody asked this monitor to stop */
    gradecho_status status; /* an error that ends the run */
    uint64_t dropped;       /* samples lost so far at the worst trainer here */
};

enum { GE_BALLOT_SIZE = 8 };
struct ge_ballot {
    int64_t word[GE_BALLOT_SIZE];
};

struct ge_verdict {
    enum {
        GE_VERDICT_MEASURE, /* all fronts are at `step` */
        GE_VERDICT_ADVANCE, /* discard what is older than `step`; vote again */
        GE_VERDICT_WAIT,    /* somebody has nothing yet; vote again */
        GE_VERDICT_END,     /* all trainers ended, or a stop was asked for */
        GE_VERDICT_FAIL     /* `status` */
    } action;
    int64_t step; /* while waiting: the newest front; below 0: there is none */
    gradecho_status status;
    uint64_t dropped; /* largest of any monitor */
};

void ge_agree_vote(const struct ge_view *view, struct ge_ballot *ballot);

/* \param merged  element-wise maximum of all ballots */
void ge_agree_decide(const struct ge_ballot *merged,
                     struct ge_verdict *verdict);

/* How far ahead the monitors meet. The same on all, since it changes by
 * verdicts alone. */
struct ge_meeting {
    int64_t every; /* sample.every, >= 1; the rest starts as zero */
    int64_t ahead; /* so many wanted steps; 0: the newest front will do */
    bool missed;   /* the fronts differed, and nothing was measured since */
};

enum { GE_MEETING_AHEAD_MAX = 1024 };

/* Follow a verdict, and let an advance go further where moving up to the newest
 * front has failed: twice as far each time that it fails again, and one wanted
 * step less far with each sample measured. */
void ge_agree_meet(struct ge_meeting *meeting, struct ge_verdict *verdict);

#endif
