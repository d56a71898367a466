#include "trainer.h"

#include <string.h>
#include <time.h>

#include "try.h"

double ge_trainer_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static gradecho_status peek(struct ge_trainer *t,
                            const struct ge_trainers_facts *facts)
{
    gradecho_status status = ge_consumer_peek(t->consumer, &t->sample);

    while (status == GRADECHO_OK && t->sample.step < facts->from) {
        ge_consumer_release(t->consumer);
        t->discarded++;
        status = ge_consumer_peek(t->consumer, &t->sample);
    }
    return status;
}

/* Its segment lies, or it died: its samples are used up. */
static enum ge_sight lose(const struct ge_trainer *t,
                          const struct ge_trainers_facts *facts,
                          gradecho_status why)
{
    const char *then = facts->stop_on_loss
                           ? "ending (on_rank_loss: stop)"
                           : "going on without it (on_rank_loss: continue)";

    ge_consumer_disable(t->consumer); /* not a copy more than it can use */
    if (why == GRADECHO_END)
        ge_warn("trainer %u died; %s", t->rank, then);
    else /* what exactly is wrong was captured */
        ge_warn("trainer %u of session %s is lost: %s; %s", t->rank,
                facts->session, ge_message_last(), then);
    return GE_SIGHT_LOST;
}

/* Nobody waits for it any more. */
static void end_silence(struct ge_trainer *t)
{
    if (t->silence_is_told)
        ge_info("trainer %u goes on after %.0f s", t->rank,
                ge_trainer_now() - t->kept_since);
    t->silence_is_told = false;
    t->kept_since = 0.0;
}

enum ge_sight ge_trainer_look(struct ge_trainer *t,
                              const struct ge_trainers_facts *facts,
                              double patience)
{
    const int before = ge_message_capture(1);
    gradecho_status status = peek(t, facts);

    if (status == GRADECHO_AGAIN && patience > 0.0) {
        ge_consumer_wait(t->consumer, patience);
        status = peek(t, facts);
    }
    ge_message_capture(before);
    if (status == GRADECHO_OK) {
        end_silence(t);
        return GE_SIGHT_SAMPLE;
    }
    if (status == GRADECHO_AGAIN)
        return GE_SIGHT_NOTHING;
    if (status == GRADECHO_END && ge_consumer_closed(t->consumer))
        return GE_SIGHT_CLOSED;
    return lose(t, facts, status);
}

void ge_trainer_give_back(struct ge_trainer *t)
{
    if (t->front.ready)
        ge_consumer_release(t->consumer);
    t->front.ready = false;
}

void ge_trainer_is_awaited(struct ge_trainer *t,
                           const struct ge_trainers_facts *facts)
{
    const double now = ge_trainer_now();

    if (!t->front.live || t->front.ready || t->silence_is_told)
        return;
    if (t->kept_since == 0.0)
        t->kept_since = now;
    if (now - t->kept_since < facts->silence)
        return;
    ge_warn("trainer %u of session %s lives and has handed over nothing for "
            "%.0f s while others wait: it is stuck, or leaves out steps that "
            "they hand over; nothing is measured until it goes on",
            t->rank, facts->session, now - t->kept_since);
    t->silence_is_told = true;
}

bool ge_trainer_same_layers(const struct ge_geometry *a,
                            const struct ge_geometry *b)
{
    bool same = a->layer_count == b->layer_count;

    for (size_t l = 0; same && l < a->layer_count; l++)
        same = a->layers[l].rows == b->layers[l].rows &&
               a->layers[l].cols == b->layers[l].cols &&
               strcmp(a->layers[l].name, b->layers[l].name) == 0;
    return same;
}

void ge_trainer_meet_successor(struct ge_trainer *t,
                               const struct ge_trainers_facts *facts)
{
    const struct ge_geometry *old = ge_consumer_geometry(t->consumer);
    ge_consumer *found = NULL;
    const int before = ge_message_capture(1);
    const gradecho_status status =
        ge_consumer_attach(facts->session, t->rank, &found);

    ge_message_capture(before);
    if (status < GRADECHO_OK) /* still the leftover, which we hold */
        return;
    const struct ge_geometry *new = ge_consumer_geometry(found);
    const bool fits =
        new->world == old->world &&new->replicas <=
                          old->replicas &&ge_trainer_same_layers(new, old);

    if (!fits && !t->strange)
        ge_warn("trainer %u is back with other layers, replicas or world "
                "size; going on without it",
                t->rank);
    t->strange = !fits;
    if (!fits || !ge_consumer_alive(found)) {
        ge_consumer_detach(&found);
        return;
    }
    ge_info("trainer %u is back", t->rank);
    t->discarded += ge_consumer_dropped(t->consumer);
    ge_consumer_detach(&t->consumer);
    t->consumer = found;
    t->front = (struct ge_front){.live = true};
    t->kept_since = 0.0;
    t->silence_is_told = false;
    ge_consumer_enable(found, facts->every);
    ge_consumer_skip_to(found, facts->from);
}
