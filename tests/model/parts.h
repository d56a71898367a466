/*
 * parts.h - what the parts of the model share.
 */
#ifndef PARTS_H
#define PARTS_H

#include <stdio.h>

#include "model.h"

/* A property is broken: the value of a function that tells. */
#define BROKEN(model, ...) (snprintf((model)->why, WHY_MAX, __VA_ARGS__), false)

static inline uint32_t bit(int step)
{
    return UINT32_C(1) << step;
}

/* What lies in the slots of the segment held. */
static inline uint32_t queue(const struct trainer *t)
{
    return t->published & ~t->taken;
}

static inline bool is_monitor(const struct model *model, int m)
{
    return m <= model->setup.owner[TRAINERS - 1];
}

/* Does monitor m serve trainer t? */
static inline bool own(const struct model *model, int m, int t)
{
    return model->setup.owner[t] == m;
}

/* What this job wants. */
static inline uint8_t every_of(const struct model *model, const struct state *s)
{
    return (uint8_t)model->setup.every[s->jobs > 1];
}

static inline struct ge_front front_of(const struct trainer *t)
{
    return (struct ge_front){
        .live = t->live, .ready = t->ready, .step = t->step};
}

/* A trainer has a segment that nobody looked into. */
static inline void new_segment(struct trainer *t)
{
    t->published = t->taken = 0;
    t->from = 0;
    t->held = t->life;
    t->back = false;
}

/* monitors.c: the actions of monitors. */
void start_job(const struct model *model, struct state *s);
void end_job(struct state *s);
void enable(const struct model *model, struct state *s, int m);
bool look(struct model *model, struct state *s, int m);
bool merge(struct model *model, struct state *s);
void act(const struct model *model, struct state *s, int m);

/* The first trainer that monitor m has not seen in this look; TRAINERS: none.
 */
int next_unseen(const struct model *model, const struct state *s, int m);

#endif
