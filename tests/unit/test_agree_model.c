/*
 * How the monitors agree, model-checked: every order in which three trainers
 * and their monitors can act, over a few steps, with drops, deaths, early ends,
 * restarts and monitors that are killed and started again (tests/model).
 *
 * That the check can fail is shown by mistakes that it must find. With
 * GRADECHO_TEST_LONG in the environment, one step more: three times the states.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "numbers.h"
#include "search.h"

#define ALONE   \
    {           \
        0, 1, 2 \
    }
#define ONE_HAS_TWO \
    {               \
        0, 0, 1     \
    }
#define ONE_FOR_ALL \
    {               \
        0, 0, 0     \
    }
#define EACH_STEP \
    {             \
        1, 1      \
    }

/* Which trainers each monitor serves, what may happen, and how much of it. */
static const struct setup setups[] = {
    {.name = "drops, lags, late starts and early ends",
     .owner = ALONE,
     .steps = 3,
     .every = EACH_STEP,
     .jobs = 1,
     .lead = 3},
    {.name = "in step, for longer",
     .owner = ALONE,
     .steps = 5,
     .every = EACH_STEP,
     .jobs = 1,
     .lead = 1},
    {.name = "they are used to missing each other",
     .owner = ALONE,
     .steps = 5,
     .every = EACH_STEP,
     .jobs = 1,
     .ahead = 1,
     .lead = 2},
    {.name = "they are used to missing each other; two at one monitor, a death",
     .owner = ONE_HAS_TWO,
     .steps = 3,
     .every = EACH_STEP,
     .jobs = 1,
     .deaths = 1,
     .ahead = 2,
     .lead = 2},
    {.name = "every second step; one does not ask for a step",
     .owner = ALONE,
     .steps = 5,
     .every = {2, 2},
     .jobs = 1,
     .lead = 1,
     .skips = 1},
    {.name = "deaths, going on",
     .owner = ALONE,
     .steps = 3,
     .every = EACH_STEP,
     .jobs = 1,
     .lead = 1,
     .deaths = 2},
    {.name = "deaths, stopping",
     .stop_on_loss = true,
     .owner = ALONE,
     .steps = 3,
     .every = EACH_STEP,
     .jobs = 1,
     .lead = 1,
     .deaths = 2},
    {.name = "a trainer comes back, the monitors start anew",
     .owner = ALONE,
     .steps = 2,
     .every = EACH_STEP,
     .jobs = 2,
     .lead = 1,
     .deaths = 1,
     .restarts = 1},
    {.name = "the monitors start anew and ask for other steps",
     .owner = ALONE,
     .steps = 3,
     .every = {1, 2},
     .jobs = 2,
     .lead = 1},
    {.name = "two at one monitor; a death",
     .owner = ONE_HAS_TWO,
     .steps = 3,
     .every = EACH_STEP,
     .jobs = 1,
     .lead = 2,
     .deaths = 1},
    {.name = "two at one monitor, which start anew; deaths, stopping",
     .stop_on_loss = true,
     .owner = ONE_HAS_TWO,
     .steps = 2,
     .every = EACH_STEP,
     .jobs = 2,
     .lead = 1,
     .deaths = 2},
    {.name = "one monitor; all that may happen",
     .owner = ONE_FOR_ALL,
     .steps = 2,
     .every = {1, 2},
     .jobs = 2,
     .lead = 1,
     .deaths = 1,
     .restarts = 1,
     .skips = 1},
    {.name = "as the first, and actions that do not touch each other in either "
             "order",
     .owner = ALONE,
     .steps = 3,
     .every = EACH_STEP,
     .jobs = 1,
     .lead = 3,
     .every_order = true},
};

static unsigned long long states, actions;

static void search(const struct setup *setup)
{
    struct search search = {
        .model = {.setup = *setup, .protocol = real_protocol}};

    search.model.setup.steps += getenv("GRADECHO_TEST_LONG") != NULL ? 1 : 0;

    const bool right = search_all(&search, true);

    print_message("%s: %llu states, %llu actions, at most %d in a row; "
                  "%llu measure, %llu advance, %llu wait, %llu end\n",
                  setup->name, search.states, search.actions, search.depth,
                  search.model.verdicts[GE_VERDICT_MEASURE],
                  search.model.verdicts[GE_VERDICT_ADVANCE],
                  search.model.verdicts[GE_VERDICT_WAIT],
                  search.model.verdicts[GE_VERDICT_END]);
    states += search.states;
    actions += search.actions;
    if (!right)
        fail_msg("%s: %s", setup->name, search.model.why);
}

static void nothing_goes_wrong(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(setups); i++)
        search(&setups[i]);
    print_message("in all: %llu states, %llu actions\n", states, actions);
}

/* ---- mistakes ---- */

static void decide_by_oldest(const struct ge_ballot *merged,
                             struct ge_verdict *verdict)
{
    ge_agree_decide(merged, verdict);
    if (verdict->action == GE_VERDICT_ADVANCE)
        verdict->step = -merged->word[1];
}

static void decide_without_waiting(const struct ge_ballot *merged,
                                   struct ge_verdict *verdict)
{
    ge_agree_decide(merged, verdict);
    if (verdict->action == GE_VERDICT_WAIT && merged->word[0] >= 0) {
        verdict->action = GE_VERDICT_MEASURE;
        verdict->step = merged->word[0];
    }
}

static void meet_too_far(struct ge_meeting *meeting, struct ge_verdict *verdict)
{
    ge_agree_meet(meeting, verdict);
    if (verdict->action == GE_VERDICT_ADVANCE)
        verdict->step += 4;
}

static void meet_behind(struct ge_meeting *meeting, struct ge_verdict *verdict)
{
    ge_agree_meet(meeting, verdict);
    if (verdict->action == GE_VERDICT_ADVANCE && meeting->ahead > 0)
        verdict->step -= 2 * meeting->ahead;
}

static void see_no_death(struct ge_front *front, enum ge_sight sight,
                         int64_t step, struct ge_ending *ending)
{
    ge_front_see(front, sight == GE_SIGHT_LOST ? GE_SIGHT_NOTHING : sight, step,
                 ending);
}

static void see_close_as_death(struct ge_front *front, enum ge_sight sight,
                               int64_t step, struct ge_ending *ending)
{
    ge_front_see(front, sight == GE_SIGHT_CLOSED ? GE_SIGHT_LOST : sight, step,
                 ending);
}

static void add_newest_only(const struct ge_front *front,
                            const struct ge_ending *ending,
                            struct ge_view *view)
{
    ge_front_add(front, ending, view);
    view->oldest = view->newest;
}

static bool is_not_newer(const struct ge_front *front, int64_t step)
{
    return front->ready && front->step <= step;
}

enum { OF_DROPS = 0, OF_MEETING = 2, OF_DEATHS = 5, OF_JOBS = 8, OF_TWO = 9 };

static const struct {
    const char *name;
    int setup;        /* that shows it */
    const char *part; /* of the property that is broken */
    struct protocol changes;
} mistakes[] = {
    {"the oldest front decides",
     OF_DROPS,
     "the votes do not end",
     {.decide = decide_by_oldest}},
    {"who has nothing is not waited for",
     OF_DROPS,
     "which is live",
     {.decide = decide_without_waiting}},
    {"death goes unnoticed",
     OF_DEATHS,
     "is not measured",
     {.see = see_no_death}},
    {"an end in order counts as a death",
     OF_DROPS,
     "had ended in order",
     {.see = see_close_as_death}},
    {"a monitor tells its newest front only",
     OF_TWO,
     "at the front",
     {.add = add_newest_only}},
    {"an advance takes the newest, too",
     OF_DROPS,
     "could be complete",
     {.is_older = is_not_newer}},
    {"they meet too far ahead",
     OF_MEETING,
     "is not measured",
     {.meet = meet_too_far}},
    {"they meet where trainers have been",
     OF_MEETING,
     "the votes do not end",
     {.meet = meet_behind}},
    {"a step before the meeting is looked at",
     OF_MEETING,
     "is not measured",
     {.takes_old_steps = true}},
    {"each decides by its own ballot",
     OF_DROPS,
     "do not do the same",
     {.decides_alone = true}},
    {"head is not read again after death",
     OF_DROPS,
     "in its queue",
     {.looks_once = true}},
    {"a slot goes back before it is read",
     OF_DROPS,
     "is not measured",
     {.releases_early = true}},
    {"an earlier job's wish is granted",
     OF_JOBS,
     "not asked for",
     {.takes_any_step = true}},
};

static struct protocol with(const struct protocol *changes)
{
    struct protocol p = *changes;

    p.see = p.see != NULL ? p.see : real_protocol.see;
    p.add = p.add != NULL ? p.add : real_protocol.add;
    p.is_older = p.is_older != NULL ? p.is_older : real_protocol.is_older;
    p.vote = p.vote != NULL ? p.vote : real_protocol.vote;
    p.decide = p.decide != NULL ? p.decide : real_protocol.decide;
    p.meet = p.meet != NULL ? p.meet : real_protocol.meet;
    return p;
}

static void every_mistake_is_found(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(mistakes); i++) {
        struct search search = {
            .model = {.setup = setups[mistakes[i].setup],
                      .protocol = with(&mistakes[i].changes)}};
        const bool right = search_all(&search, false);

        print_message("%s: %s (%d actions)\n", mistakes[i].name,
                      search.model.why, search.depth);
        if (right || strstr(search.model.why, mistakes[i].part) == NULL)
            fail_msg("%s: not found", mistakes[i].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_goes_wrong),
        cmocka_unit_test(every_mistake_is_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
