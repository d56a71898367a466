/* What monitors do. */
#include "parts.h"

#include <string.h>

static int lowest(uint32_t set)
{
    return __builtin_ctz(set);
}

static void start_look(const struct model *model, struct state *s, int m)
{
    s->monitor[m].phase = VOTED; /* all ended: nothing to look at */
    for (int t = 0; t < TRAINERS; t++) {
        if (own(model, m, t) && s->trainer[t].live) {
            s->trainer[t].look = UNSEEN;
            s->monitor[m].phase = LOOKING;
        }
    }
}

/* The processes of the monitors are gone. What they wrote stays. */
void end_job(struct state *s)
{
    s->job = s->missed = false;
    s->last = s->ahead = 0;
    for (int t = 0; t < TRAINERS; t++) {
        struct trainer *trainer = &s->trainer[t];

        trainer->listened = trainer->live = trainer->ready = false;
        if (trainer->back)
            new_segment(trainer);
    }
    memset(s->monitor, 0, sizeof s->monitor);
}

void start_job(const struct model *model, struct state *s)
{
    s->job = true;
    s->jobs++;
    s->ahead = (uint8_t)model->setup.ahead;
    for (int t = 0; t < TRAINERS; t++)
        s->trainer[t].wanted = false;
    for (int m = 0; is_monitor(model, m); m++)
        s->monitor[m].phase = ATTACHING;
}

/* Trainers are enabled one by one. */
void enable(const struct model *model, struct state *s, int m)
{
    int left = 0;

    for (int t = TRAINERS; t-- > 0;)
        if (own(model, m, t) && !s->trainer[t].listened)
            left = t;
    struct trainer *trainer = &s->trainer[left];

    trainer->published = trainer->taken = 0; /* tail = head */
    trainer->from = 0;
    trainer->listened = trainer->live = true;
    if (!trainer->back) {
        trainer->wanted = true;
        trainer->every = every_of(model, s);
    }
    if (left == TRAINERS - 1 || !own(model, m, left + 1))
        start_look(model, s, m);
}

static struct ge_ending ending_of(const struct model *model,
                                  const struct monitor *m)
{
    return (struct ge_ending){.stop_on_loss = model->setup.stop_on_loss,
                              .closed = m->closed,
                              .stop = m->stop};
}

static bool see(struct model *model, struct state *s, int m, struct trainer *t,
                enum ge_sight sight)
{
    struct ge_ending ending = ending_of(model, &s->monitor[m]);
    struct ge_front front = {.live = t->live};
    const int step = sight == GE_SIGHT_SAMPLE ? lowest(queue(t)) : 0;

    if ((sight == GE_SIGHT_CLOSED || sight == GE_SIGHT_LOST) && queue(t) != 0)
        return BROKEN(model, "a trainer is given up, with step %d in its queue",
                      lowest(queue(t)));
    model->protocol.see(&front, sight, step, &ending);
    t->live = front.live;
    t->ready = front.ready;
    t->step = (uint8_t)front.step;
    t->look = SEEN;
    s->monitor[m].closed = ending.closed;
    s->monitor[m].stop = ending.stop;
    if (model->protocol.releases_early && t->ready)
        t->taken |= bit(t->step);
    return true;
}

/* ge_consumer_peek(), in the pieces between which the trainer may act: head;
 * if it shows nothing, whether the trainer lives; then head again. (Head and
 * liveness in one piece: a change in between is seen by the second look.) */
static bool peek(struct model *model, struct state *s, int m, struct trainer *t)
{
    const bool once = model->protocol.looks_once;

    if (queue(t) != 0 && (t->look == UNSEEN || !once)) {
        const int step = lowest(queue(t));

        if ((step % every_of(model, s) == 0 ||
             model->protocol.takes_any_step) &&
            (step >= t->from || model->protocol.takes_old_steps))
            return see(model, s, m, t, GE_SIGHT_SAMPLE);
        t->taken |= bit(step);
        t->look = UNSEEN;
    } else if (t->look == UNSEEN) {
        t->look = once || t->held == LIVE ? SAW_ALIVE : SAW_GONE;
    } else if (t->look == SAW_GONE || (once && t->held != LIVE)) {
        return see(model, s, m, t,
                   t->held == CLOSED ? GE_SIGHT_CLOSED : GE_SIGHT_LOST);
    } else {
        return see(model, s, m, t, GE_SIGHT_NOTHING);
    }
    return true;
}

static bool is_unseen(const struct model *model, const struct state *s, int m,
                      int t)
{
    return own(model, m, t) && s->trainer[t].live && s->trainer[t].look != SEEN;
}

int next_unseen(const struct model *model, const struct state *s, int m)
{
    int t = 0;

    while (t < TRAINERS && !is_unseen(model, s, m, t))
        t++;
    return t;
}

/* One piece of a look at the first trainer that is not seen yet. */
bool look(struct model *model, struct state *s, int m)
{
    const int t = next_unseen(model, s, m);

    if (t < TRAINERS && !peek(model, s, m, &s->trainer[t]))
        return false;
    if (next_unseen(model, s, m) == TRAINERS)
        s->monitor[m].phase = VOTED;
    return true;
}

/* What a monitor does after the vote, with its own trainers' slots. */
void act(const struct model *model, struct state *s, int m)
{
    const uint8_t phase = s->monitor[m].phase;

    for (int t = 0; t < TRAINERS; t++) {
        struct trainer *trainer = &s->trainer[t];
        const struct ge_front front = front_of(trainer);

        if (!own(model, m, t))
            continue;
        if ((phase == MEASURING && front.ready) ||
            (phase == ADVANCING && model->protocol.is_older(&front, s->step))) {
            trainer->taken |= bit(trainer->step);
            trainer->ready = false;
        }
        if (phase == ADVANCING && s->step > trainer->from)
            trainer->from = s->step;
        else if (phase == ENDING && !trainer->back) {
            trainer->wanted = false;
        }
    }
    if (phase != ENDING) {
        start_look(model, s, m);
        return;
    }
    s->monitor[m].phase = ABSENT;
    for (int other = 0; is_monitor(model, other); other++)
        if (s->monitor[other].phase != ABSENT)
            return;
    end_job(s);
}

static void vote(const struct model *model, const struct state *s, int m,
                 struct ge_ballot *ballot)
{
    const struct ge_ending ending = ending_of(model, &s->monitor[m]);
    struct ge_view view = {.status = GRADECHO_OK};

    for (int t = 0; t < TRAINERS; t++) {
        const struct ge_front front = front_of(&s->trainer[t]);

        if (own(model, m, t))
            model->protocol.add(&front, &ending, &view);
    }
    model->protocol.vote(&view, ballot);
}

static struct ge_meeting meeting_of(const struct model *model,
                                    const struct state *s)
{
    return (struct ge_meeting){
        .every = every_of(model, s), .ahead = s->ahead, .missed = s->missed};
}

/* All have voted. Each monitor reads the merged ballot for itself. */
bool merge(struct model *model, struct state *s)
{
    static const uint8_t phase[] = {[GE_VERDICT_MEASURE] = MEASURING,
                                    [GE_VERDICT_ADVANCE] = ADVANCING,
                                    [GE_VERDICT_WAIT] = LOOKING,
                                    [GE_VERDICT_END] = ENDING};
    struct ge_ballot ballot[TRAINERS], merged = {{0}};
    struct ge_verdict verdict[TRAINERS] = {{0}};
    struct ge_meeting meeting = {0};

    for (int m = 0; is_monitor(model, m); m++) {
        vote(model, s, m, &ballot[m]);
        for (int w = 0; w < GE_BALLOT_SIZE; w++)
            if (m == 0 || ballot[m].word[w] > merged.word[w])
                merged.word[w] = ballot[m].word[w];
    }
    for (int m = 0; is_monitor(model, m); m++) {
        model->protocol.decide(
            model->protocol.decides_alone ? &ballot[m] : &merged, &verdict[m]);
        meeting = meeting_of(model, s);
        model->protocol.meet(&meeting, &verdict[m]);
        if (verdict[m].step > FOREVER)
            verdict[m].step = FOREVER;
        if (verdict[m].action != verdict[0].action ||
            verdict[m].step != verdict[0].step)
            return BROKEN(model, "monitors 0 and %d do not do the same", m);
    }
    if (!model_may(model, s, &verdict[0]))
        return false;
    model->verdicts[verdict->action]++;
    if (verdict->action == GE_VERDICT_MEASURE)
        s->last = (uint8_t)(verdict->step + 1);
    s->step = (uint8_t)verdict->step;
    s->missed = meeting.missed;
    s->ahead = (uint8_t)meeting.ahead;
    for (int m = 0; is_monitor(model, m); m++) {
        s->monitor[m].phase = phase[verdict->action];
        if (verdict->action == GE_VERDICT_WAIT)
            start_look(model, s, m);
    }
    return true;
}
