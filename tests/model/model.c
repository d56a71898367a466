#include "model.h"

#include <stdio.h>
#include <string.h>

const struct protocol real_protocol = {.see = ge_front_see,
                                       .add = ge_front_add,
                                       .is_older = ge_front_is_older,
                                       .vote = ge_agree_vote,
                                       .decide = ge_agree_decide};

static uint16_t bit(int step)
{
    return (uint16_t)(1U << step);
}

static uint16_t queue(const struct trainer *t)
{
    return t->published & (uint16_t)~t->taken;
}

static int size(uint16_t set)
{
    return __builtin_popcount(set);
}

static int lowest(uint16_t set)
{
    return __builtin_ctz(set);
}

static bool is_monitor(const struct model *model, int m)
{
    return m <= model->setup.owner[TRAINERS - 1];
}

static uint8_t every_of(const struct model *model, const struct state *s)
{
    return (uint8_t)model->setup.every[s->jobs > 1];
}

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

static void new_segment(struct trainer *t)
{
    t->published = t->taken = 0;
    t->held = t->life;
    t->back = false;
}

static void begin(struct trainer *t)
{
    if (!t->wanted || t->next % t->every != 0 || size(queue(t)) >= SLOTS)
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

/* ---- monitors ---- */

static bool own(const struct model *model, int m, int t)
{
    return model->setup.owner[t] == m;
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
static void end_job(struct state *s)
{
    s->job = false;
    s->last = 0;
    for (int t = 0; t < TRAINERS; t++) {
        struct trainer *trainer = &s->trainer[t];

        trainer->listened = trainer->live = trainer->ready = false;
        if (trainer->back)
            new_segment(trainer);
    }
    memset(s->monitor, 0, sizeof s->monitor);
}

static void start_job(const struct model *model, struct state *s)
{
    s->job = true;
    s->jobs++;
    for (int t = 0; t < TRAINERS; t++)
        s->trainer[t].wanted = false;
    for (int m = 0; is_monitor(model, m); m++)
        s->monitor[m].phase = ATTACHING;
}

/* Trainers are enabled one by one. */
static void enable(const struct model *model, struct state *s, int m)
{
    int left = 0;

    for (int t = TRAINERS; t-- > 0;)
        if (own(model, m, t) && !s->trainer[t].listened)
            left = t;
    struct trainer *trainer = &s->trainer[left];

    trainer->published = trainer->taken = 0; /* tail = head */
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
        if (lowest(queue(t)) % every_of(model, s) == 0 ||
            model->protocol.takes_any_step)
            return see(model, s, m, t, GE_SIGHT_SAMPLE);
        t->taken |= bit(lowest(queue(t)));
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

static int next_unseen(const struct model *model, const struct state *s, int m)
{
    int t = 0;

    while (t < TRAINERS && !is_unseen(model, s, m, t))
        t++;
    return t;
}

/* One piece of a look at the first trainer that is not seen yet. */
static bool look(struct model *model, struct state *s, int m)
{
    const int t = next_unseen(model, s, m);

    if (t < TRAINERS && !peek(model, s, m, &s->trainer[t]))
        return false;
    if (next_unseen(model, s, m) == TRAINERS)
        s->monitor[m].phase = VOTED;
    return true;
}

/* What a monitor does after the vote, with its own trainers' slots. */
static void act(const struct model *model, struct state *s, int m)
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
        } else if (phase == ENDING && !trainer->back) {
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

/* All have voted. Each monitor reads the merged ballot for itself. */
static bool merge(struct model *model, struct state *s)
{
    static const uint8_t phase[] = {[GE_VERDICT_MEASURE] = MEASURING,
                                    [GE_VERDICT_ADVANCE] = ADVANCING,
                                    [GE_VERDICT_WAIT] = LOOKING,
                                    [GE_VERDICT_END] = ENDING};
    struct ge_ballot ballot[TRAINERS], merged = {{0}};
    struct ge_verdict verdict[TRAINERS];

    for (int m = 0; is_monitor(model, m); m++) {
        vote(model, s, m, &ballot[m]);
        for (int w = 0; w < GE_BALLOT_SIZE; w++)
            if (m == 0 || ballot[m].word[w] > merged.word[w])
                merged.word[w] = ballot[m].word[w];
    }
    for (int m = 0; is_monitor(model, m); m++) {
        model->protocol.decide(
            model->protocol.decides_alone ? &ballot[m] : &merged, &verdict[m]);
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
    for (int m = 0; is_monitor(model, m); m++) {
        s->monitor[m].phase = phase[verdict->action];
        if (verdict->action == GE_VERDICT_WAIT)
            start_look(model, s, m);
    }
    return true;
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

    for (uint8_t what = 0; what < WHATS; what++)
        for (uint8_t who = 0; who < TRAINERS; who++)
            if (trainer_may(model, s, what, who) ||
                monitor_may(model, s, what, who))
                list[found++] = (struct action){what, who};
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
