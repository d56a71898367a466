/* What must be true of every verdict, and what must come of every state. Told
 * by what trainers did, not by what monitors believe. */
#include "parts.h"

#include <stdio.h>
#include <string.h>

static bool has(uint32_t set, int step)
{
    return (set >> step & 1) != 0;
}

/* ---- verdicts ---- */

static bool may_measure(struct model *model, const struct state *s, int step)
{
    const int every = every_of(model, s);
    int replicas = 0;

    for (int t = 0; t < TRAINERS; t++) {
        const struct trainer *u = &s->trainer[t];

        if (u->live && !(u->ready && u->step == step))
            return BROKEN(model,
                          "step %d is measured, and is not at the front "
                          "of trainer %d, which is live",
                          step, t);
        if (u->live && !has(queue(u), step))
            return BROKEN(model,
                          "step %d is measured, and trainer %d may write "
                          "to its slot",
                          step, t);
        if (!u->live && u->held == LIVE)
            return BROKEN(model,
                          "step %d is measured without trainer %d, which "
                          "is live",
                          step, t);
        if (u->held == CLOSED && !has(u->published, step))
            return BROKEN(model,
                          "step %d is measured, and trainer %d had ended "
                          "in order before it",
                          step, t);
        replicas += u->ready;
    }
    if (replicas == 0)
        return BROKEN(model, "step %d is measured, and nobody has it", step);
    if (step < s->last)
        return BROKEN(model, "step %d is measured after step %d", step,
                      s->last - 1);
    if (step % every != 0)
        return BROKEN(model, "step %d is measured, and was not asked for",
                      step);
    return true;
}

/* A sample may be thrown away if it cannot become complete: a trainer went past
 * its step, or ended in order, without it. Where the monitors have missed each
 * other, also for a later step to meet at. */
static bool may_discard(const struct state *s, int step)
{
    if (s->missed || s->ahead > 0)
        return true;
    for (int t = 0; t < TRAINERS; t++) {
        const struct trainer *u = &s->trainer[t];

        if (!has(u->published, step) &&
            (u->published >> step != 0 || u->held == CLOSED))
            return true;
    }
    return false;
}

static bool may_advance(struct model *model, const struct state *s, int step)
{
    int discarded = 0;

    for (int t = 0; t < TRAINERS; t++) {
        const struct trainer *u = &s->trainer[t];
        const struct ge_front front = front_of(u);

        if (!model->protocol.is_older(&front, step))
            continue;
        if (!may_discard(s, u->step))
            return BROKEN(model,
                          "step %d of trainer %d is discarded, and could "
                          "be complete",
                          u->step, t);
        discarded++;
    }
    return discarded > 0 ||
           BROKEN(model,
                  "advancing to step %d discards nothing: the votes do "
                  "not end",
                  step);
}

static bool may_wait(struct model *model, const struct state *s)
{
    for (int t = 0; t < TRAINERS; t++)
        if (s->trainer[t].live && !s->trainer[t].ready)
            return true;
    return BROKEN(model, "the monitors wait for nobody");
}

static bool may_end(struct model *model, const struct state *s)
{
    bool live = false, lost = false;

    for (int t = 0; t < TRAINERS; t++) {
        const struct trainer *u = &s->trainer[t];

        live = live || u->live || u->held == LIVE;
        lost = lost || u->held == DEAD;
    }
    return !live || (lost && model->setup.stop_on_loss) ||
           BROKEN(model, "the monitors end, and a trainer goes on");
}

bool model_may(struct model *model, const struct state *s,
               const struct ge_verdict *verdict)
{
    const int step = (int)verdict->step;

    for (int m = 0; m < TRAINERS; m++)
        if (s->monitor[m].stop && verdict->action != GE_VERDICT_END)
            return BROKEN(model, "a trainer is lost, and the monitors go on");
    switch (verdict->action) {
    case GE_VERDICT_MEASURE:
        return may_measure(model, s, step);
    case GE_VERDICT_ADVANCE:
        return may_advance(model, s, step);
    case GE_VERDICT_WAIT:
        return may_wait(model, s);
    case GE_VERDICT_END:
        return may_end(model, s);
    case GE_VERDICT_FAIL:
        break;
    }
    return BROKEN(model, "nobody failed");
}

/* ---- progress ---- */

enum { ACTIONS_TO_REST = 300 };

/* Monitors alone, in turn, until they wait for a trainer twice running, the
 * second time by what they saw since, or have ended. */
static bool rest(struct model *model, struct state *s)
{
    struct action list[ACTIONS_MAX];
    int waits = 0;

    for (int n = 0; s->job && waits < 2; n++) {
        const unsigned long long waited = model->verdicts[GE_VERDICT_WAIT];
        const int count = model_actions(model, s, list);
        int next = 0;

        while (next < count && list[next].what < ENABLE)
            next++;
        if (next == count)
            return BROKEN(model, "the monitors are stuck");
        if (n == ACTIONS_TO_REST)
            return BROKEN(model, "the votes do not end");
        if (!model_do(model, s, list[next]))
            return false;
        if (list[next].what == MERGE)
            waits = model->verdicts[GE_VERDICT_WAIT] > waited ? waits + 1 : 0;
    }
    return true;
}

static bool waits_for_the_living(struct model *model, const struct state *s)
{
    for (int t = 0; s->job && t < TRAINERS; t++)
        if (s->trainer[t].held == LIVE && queue(&s->trainer[t]) == 0)
            return true;
    return !s->job ||
           BROKEN(model,
                  "the monitors wait, and no trainer keeps them waiting");
}

/* One step of one trainer, which never fails it. */
static bool train(struct model *model, struct state *s, int who)
{
    return model_do(model, s, (struct action){BEGIN, (uint8_t)who}) &&
           (!s->trainer[who].begun ||
            model_do(model, s, (struct action){PUBLISH, (uint8_t)who})) &&
           rest(model, s);
}

static bool all_go_on(const struct model *model, const struct state *s)
{
    bool some = false;

    for (int t = 0; t < TRAINERS; t++) {
        const struct trainer *u = &s->trainer[t];

        if (u->held == CLOSED || (u->held == DEAD && model->setup.stop_on_loss))
            return false;
        some = some || u->held == LIVE;
    }
    return s->job && some;
}

/* Trainers that live catch up with the foremost and go on in step. Two more
 * samples are lost at most: one for which a slot was not free yet, one that was
 * skipped to meet at the next; more, if the monitors are about to meet further
 * ahead. */
static bool is_measured_again(struct model *model, struct state *s)
{
    const int every = every_of(model, s);
    int step = STEPS_MAX, foremost = 0, sure = 0;

    for (int t = 0; t < TRAINERS; t++) {
        const struct trainer *u = &s->trainer[t];

        if (u->held != LIVE)
            continue;
        if (u->begun &&
            (!model_do(model, s, (struct action){PUBLISH, (uint8_t)t}) ||
             !rest(model, s)))
            return false;
        foremost = u->next > foremost ? u->next : foremost;
        foremost = u->from > foremost ? u->from : foremost;
        step = u->next < step ? u->next : step;
    }
    sure = foremost + (2 + 2 * s->ahead) * every;
    for (; step <= sure + 2 * every; step++) {
        for (int t = 0; t < TRAINERS; t++)
            if (s->trainer[t].held == LIVE && s->trainer[t].next == step &&
                !train(model, s, t))
                return false;
        if (step % every == 0 && step >= sure && s->last != step + 1)
            return BROKEN(model,
                          "the trainers went on in step, and step %d is "
                          "not measured",
                          step);
    }
    return true;
}

bool model_goes_on(struct model *model, const struct state *state)
{
    unsigned long long verdicts[GE_VERDICT_FAIL];
    struct state s;
    bool right = true;

    memcpy(verdicts, model->verdicts, sizeof verdicts);
    memcpy(&s, state, sizeof s);
    right = rest(model, &s) && waits_for_the_living(model, &s) &&
            (!all_go_on(model, &s) || is_measured_again(model, &s));
    memcpy(model->verdicts, verdicts, sizeof verdicts);
    return right;
}
