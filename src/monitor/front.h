/*
 * front.h - what a monitor knows of one trainer, and how that becomes a view.
 *
 * Pure, as comm/agree.h is: no segment is touched, so that the model checker
 * (tests/model) goes through the very code that runs.
 */
#ifndef GRADECHO_MONITOR_FRONT_H
#define GRADECHO_MONITOR_FRONT_H

#include "agree.h"

/* One trainer: the front of its queue. */
struct ge_front {
    bool live;    /* it is listened to */
    bool ready;   /* a sample is there: */
    int64_t step; /* of this step */
};

/* What a look at a trainer found. */
enum ge_sight {
    GE_SIGHT_SAMPLE,
    GE_SIGHT_NOTHING, /* yet */
    GE_SIGHT_CLOSED,  /* it ended in order, and nothing is left */
    GE_SIGHT_LOST     /* it died and nothing is left, or cannot be trusted */
};

/* What stays true of a monitor once one of its trainers ended. */
struct ge_ending {
    bool stop_on_loss; /* on_rank_loss: stop */
    bool closed, stop;
};

/* \param step  if a sample was seen */
void ge_front_see(struct ge_front *front, enum ge_sight sight, int64_t step,
                  struct ge_ending *ending);

/* True if the sample at the front is to be discarded by an advance to step. */
bool ge_front_is_older(const struct ge_front *front, int64_t step);

/* Merge one trainer into its monitor's view; an empty view is all zero. */
void ge_front_add(const struct ge_front *front, const struct ge_ending *ending,
                  struct ge_view *view);

#endif
