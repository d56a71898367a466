/* States that differ in nothing that can still matter are one. */
#include "parts.h"

#include <string.h>

/* Below the oldest sample in a queue and all that can still be handed over,
 * history is over. */
static void forget_history(struct state *s)
{
    int oldest = STEPS_MAX - 1;

    for (int t = 0; t < TRAINERS; t++) {
        const struct trainer *u = &s->trainer[t];
        int here = STEPS_MAX - 1;

        if (u->held == LIVE)
            here = u->next;
        if (queue(u) != 0)
            here = __builtin_ctz(queue(u));
        oldest = here < oldest ? here : oldest;
    }
    for (int t = 0; t < TRAINERS; t++) {
        struct trainer *u = &s->trainer[t];

        u->published = u->published >> oldest << oldest;
        u->taken &= u->published;
    }
    if (s->last <= oldest)
        s->last = 0;
}

/* A step from which samples are asked for is forgotten once all that is handed
 * over is of such steps. */
static void forget_wish(struct trainer *t)
{
    const bool going_on = t->life == LIVE && !t->back;

    if ((queue(t) == 0 || __builtin_ctz(queue(t)) >= t->from) &&
        (!going_on || t->next >= t->from))
        t->from = 0;
}

static void forget_trainer(struct state *s, struct trainer *t)
{
    forget_wish(t);
    if (!s->job && !t->wanted)
        t->published = t->taken = 0; /* enabling begins with an empty queue */
    if (t->life != LIVE && s->restarts == 0)
        t->next = 0;
    if (t->life != LIVE || !t->wanted)
        t->every = 0;
    if (!t->ready)
        t->step = 0;
    if (!t->live)
        t->look = UNSEEN;
}

static int compare(const struct state *s, int a, int b)
{
    const int trainers =
        memcmp(&s->trainer[a], &s->trainer[b], sizeof s->trainer[a]);

    return trainers != 0
               ? trainers
               : memcmp(&s->monitor[a], &s->monitor[b], sizeof s->monitor[a]);
}

static void order(struct state *s, int a, int b)
{
    if (compare(s, a, b) <= 0)
        return;
    const struct trainer trainer = s->trainer[a];
    const struct monitor monitor = s->monitor[a];

    s->trainer[a] = s->trainer[b];
    s->monitor[a] = s->monitor[b];
    s->trainer[b] = trainer;
    s->monitor[b] = monitor;
}

void model_reduce(const struct model *model, struct state *s)
{
    bool acting = false;

    for (int t = 0; t < TRAINERS; t++)
        forget_trainer(s, &s->trainer[t]);
    forget_history(s);
    for (int m = 0; m < TRAINERS; m++)
        acting = acting || s->monitor[m].phase == ADVANCING;
    if (!acting)
        s->step = 0;
    if (model->setup.owner[1] == 1 && model->setup.owner[2] == 2) {
        order(s, 0, 1);
        order(s, 1, 2);
        order(s, 0, 1);
    }
}
