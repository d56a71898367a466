/* What trainers do, and who may do what. */
#include "parts.h"

#include <string.h>

const struct protocol real_protocol = {.see = ge_front_see,
                                       .add = ge_front_add,
                                       .is_older = ge_front_is_older,
                                       .vote = ge_agree_vote,
                                       .decide = ge_agree_decide,
                                       .meet = ge_agree_meet};

void model_start(const struct model *model, struct state *s)
{
    memset(s, 0, sizeof *s);
    s->deaths = (uint8_t)model->setup.deaths;
    s->restarts = (uint8_t)model->setup.restarts;
    s->skips = (uint8_t)model->setup.skips;
}

bool model_is_over(const struct state *s)
{
    for (int t = 0; t < TRAINERS; t++)
        if (s->trainer[t].life == LIVE)
            return false;
    return !s->job;
}

/* ---- trainers ---- */

static int size(uint32_t set)
{
    return __builtin_popcount(set);
}

static void begin(struct trainer *t)
{
    if (!t->wanted || t->next % t->every != 0 || t->next < t->from ||
        size(queue(t)) >= SLOTS)
        t->next++; /* not wanted, or dropped */
    else
        t->begun = true;
}

static void publish(struct trainer *t)
{
    t->published |= bit(t->next++);
    t->begun = false;
}

static void leave(struct trainer *t, uint8_t how)
{
    t->life = how;
    if (!t->back)
        t->held = how;
    t->begun = false;
}

static void come_back(struct trainer *t, bool job)
{
    t->life = LIVE;
    t->wanted = false;
    t->back = true;
    if (!job)
        new_segment(t);
}

/* Trainers wait for each other in their own all-reduce. */
static bool too_far_ahead(const struct model *model, const struct state *s,
                          const struct trainer *t)
{
    for (int u = 0; u < TRAINERS; u++)
        if (s->trainer[u].life == LIVE &&
            t->next - s->trainer[u].next >= model->setup.lead)
            return true;
    return false;
}

/* ---- actions ---- */

static bool all_voted(const struct model *model, const struct state *s)
{
    for (int m = 0; is_monitor(model, m); m++)
        if (s->monitor[m].phase != VOTED)
            return false;
    return s->job;
}

static bool all_live(const struct state *s)
{
    for (int t = 0; t < TRAINERS; t++)
        if (s->trainer[t].life != LIVE)
            return false;
    return true;
}

static bool trainer_may(const struct model *model, const struct state *s,
                        enum what what, int who)
{
    const struct trainer *t = &s->trainer[who];
    const bool idle = t->life == LIVE && !t->begun;
    const bool moves =
        idle && t->next < model->setup.steps && !too_far_ahead(model, s, t);

    switch (what) {
    case BEGIN:
        return moves;
    case SKIP:
        return moves && s->skips > 0 && t->wanted;
    case PUBLISH:
        return t->begun;
    case CLOSE:
        return idle;
    case DIE:
        return t->life == LIVE && s->deaths > 0;
    case COME_BACK:
        return t->life != LIVE && s->restarts > 0;
    default:
        return false;
    }
}

static bool monitor_may(const struct model *model, const struct state *s,
                        enum what what, int who)
{
    const uint8_t phase = s->monitor[who].phase;

    switch (what) {
    case JOB_STARTS: /* once all trainers have their segments */
        return who == 0 && !s->job && s->jobs < model->setup.jobs &&
               all_live(s);
    case JOB_IS_KILLED: /* the last one must come to its end */
        return who == 0 && s->job && s->jobs < model->setup.jobs;
    case ENABLE:
        return phase == ATTACHING;
    case LOOK:
        return phase == LOOKING;
    case MERGE:
        return who == 0 && all_voted(model, s);
    case ACT:
        return phase >= MEASURING;
    default:
        return false;
    }
}

int model_actions(const struct model *model, const struct state *s,
                  struct action *list)
{
    int found = 0;

    for (int what = 0; what < WHATS; what++)
        for (int who = 0; who < TRAINERS; who++)
            if (trainer_may(model, s, (enum what)what, who) ||
                monitor_may(model, s, (enum what)what, who))
                list[found++] = (struct action){(uint8_t)what, (uint8_t)who};
    return found;
}

int model_settled(const struct model *model, const struct state *s,
                  const struct action *list, int count)
{
    for (int i = 0; i < count && !model->setup.every_order; i++) {
        if (list[i].what == MERGE)
            return i;
        if (list[i].what != LOOK)
            continue;
        const struct trainer *t =
            &s->trainer[next_unseen(model, s, list[i].who)];

        /* Nobody else takes a sample away; the dead stay dead. */
        if (queue(t) != 0 ? t->look == UNSEEN || !model->protocol.looks_once
                          : t->held != LIVE && t->look != SAW_ALIVE)
            return i;
    }
    return -1;
}

bool model_do(struct model *model, struct state *s, struct action action)
{
    struct trainer *t = &s->trainer[action.who];

    switch ((enum what)action.what) {
    case BEGIN:
        begin(t);
        break;
    case SKIP:
        s->skips--;
        t->next++;
        break;
    case PUBLISH:
        publish(t);
        break;
    case CLOSE:
        leave(t, CLOSED);
        break;
    case DIE:
        s->deaths--;
        leave(t, DEAD);
        break;
    case COME_BACK:
        s->restarts--;
        come_back(t, s->job);
        break;
    case JOB_STARTS:
        start_job(model, s);
        break;
    case JOB_IS_KILLED:
        end_job(s);
        break;
    case ENABLE:
        enable(model, s, action.who);
        break;
    case LOOK:
        return look(model, s, action.who);
    case MERGE:
        return merge(model, s);
    case ACT:
        act(model, s, action.who);
        break;
    case WHATS:
        break;
    }
    return true;
}
