/* How monitors agree on a step: a table of votes, and every run of three
 * monitors over short queues. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agree.h"
#include "numbers.h"

enum { MONITORS = 3 };

static struct ge_verdict decide(const struct ge_view *views, size_t count)
{
    struct ge_ballot merged, mine;
    struct ge_verdict verdict;

    ge_agree_vote(&views[0], &merged);
    for (size_t i = 1; i < count; i++) {
        ge_agree_vote(&views[i], &mine);
        for (size_t w = 0; w < GE_BALLOT_SIZE; w++)
            if (mine.word[w] > merged.word[w])
                merged.word[w] = mine.word[w];
    }
    ge_agree_decide(&merged, &verdict);
    return verdict;
}

#define READY(s)                            \
    {                                       \
        .state = GE_VIEW_READY, .step = (s) \
    }
#define WAITING                  \
    {                            \
        .state = GE_VIEW_WAITING \
    }
#define ENDED                  \
    {                          \
        .state = GE_VIEW_ENDED \
    }
#define STOPPED(s)                                        \
    {                                                     \
        .state = GE_VIEW_READY, .step = (s), .stop = true \
    }
#define FAILING(s, code)                                      \
    {                                                         \
        .state = GE_VIEW_READY, .step = (s), .status = (code) \
    }

static const struct {
    const char *name;
    struct ge_view view[MONITORS];
    int action;
    int64_t step; /* where it has a meaning, else -1 */
    gradecho_status status;
} table[] = {
    {"all are ready", {READY(7), READY(7), READY(7)}, GE_VERDICT_MEASURE, 7, 0},
    {"the first step",
     {READY(0), READY(0), READY(0)},
     GE_VERDICT_MEASURE,
     0,
     0},
    {"a far step",
     {READY(INT64_MAX), READY(INT64_MAX), READY(INT64_MAX)},
     GE_VERDICT_MEASURE,
     INT64_MAX,
     0},
    {"one is behind", {READY(7), READY(5), READY(7)}, GE_VERDICT_ADVANCE, 7, 0},
    {"all differ", {READY(3), READY(5), READY(4)}, GE_VERDICT_ADVANCE, 5, 0},
    {"one is at zero",
     {READY(0), READY(0), READY(1)},
     GE_VERDICT_ADVANCE,
     1,
     0},
    {"one waits", {READY(7), WAITING, READY(7)}, GE_VERDICT_WAIT, -1, 0},
    {"one waits, two differ",
     {READY(7), WAITING, READY(9)},
     GE_VERDICT_ADVANCE,
     9,
     0},
    {"all wait", {WAITING, WAITING, WAITING}, GE_VERDICT_WAIT, -1, 0},
    {"one ended, one waits", {ENDED, WAITING, ENDED}, GE_VERDICT_WAIT, -1, 0},
    {"one ended", {READY(7), ENDED, READY(7)}, GE_VERDICT_MEASURE, 7, 0},
    {"one is left", {ENDED, ENDED, READY(0)}, GE_VERDICT_MEASURE, 0, 0},
    {"one ended, two differ",
     {READY(7), ENDED, READY(8)},
     GE_VERDICT_ADVANCE,
     8,
     0},
    {"one of each", {READY(7), ENDED, WAITING}, GE_VERDICT_WAIT, -1, 0},
    {"all ended", {ENDED, ENDED, ENDED}, GE_VERDICT_END, -1, 0},
    {"one is stopped", {READY(7), STOPPED(7), READY(7)}, GE_VERDICT_END, -1, 0},
    {"one waits, one is stopped",
     {WAITING, STOPPED(7), READY(9)},
     GE_VERDICT_END,
     -1,
     0},
    {"one fails",
     {READY(7), READY(7), FAILING(7, GRADECHO_E_NUMERIC)},
     GE_VERDICT_FAIL,
     -1,
     GRADECHO_E_NUMERIC},
    {"two fail: the gravest counts",
     {FAILING(1, GRADECHO_E_INPUT), WAITING, FAILING(2, GRADECHO_E_HDF5)},
     GE_VERDICT_FAIL,
     -1,
     GRADECHO_E_HDF5},
    {"failing goes before a stop",
     {STOPPED(7), FAILING(7, GRADECHO_E_SYS), ENDED},
     GE_VERDICT_FAIL,
     -1,
     GRADECHO_E_SYS},
    {"an outcome is no failure",
     {FAILING(7, GRADECHO_AGAIN), READY(7), READY(7)},
     GE_VERDICT_MEASURE,
     7,
     0},
};

static void every_vote_has_its_verdict(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        /* Whoever is rank 0. */
        for (size_t turn = 0; turn < MONITORS; turn++) {
            struct ge_view views[MONITORS];

            for (size_t m = 0; m < MONITORS; m++)
                views[m] = table[i].view[(m + turn) % MONITORS];
            const struct ge_verdict verdict = decide(views, MONITORS);

            if ((int)verdict.action != table[i].action)
                print_error("%s\n", table[i].name);
            assert_int_equal(verdict.action, table[i].action);
            if (table[i].step >= 0)
                assert_true(verdict.step == table[i].step);
            if (table[i].action == GE_VERDICT_FAIL)
                assert_int_equal(verdict.status, table[i].status);
        }
    }
}

static void one_monitor_agrees_with_itself(void **state)
{
    const struct ge_view ready = READY(4), waiting = WAITING, ended = ENDED;

    (void)state;
    assert_int_equal(decide(&ready, 1).action, GE_VERDICT_MEASURE);
    assert_true(decide(&ready, 1).step == 4);
    assert_int_equal(decide(&waiting, 1).action, GE_VERDICT_WAIT);
    assert_int_equal(decide(&ended, 1).action, GE_VERDICT_END);
}

static void the_worst_loss_is_known_to_all(void **state)
{
    struct ge_view views[] = {READY(4), WAITING, ENDED};

    (void)state;
    views[0].dropped = 3;
    views[1].dropped = 11;
    views[2].dropped = 5;
    assert_true(decide(views, MONITORS).dropped == 11);
    views[1].dropped = 0;
    assert_true(decide(views, MONITORS).dropped == 5);
}

/*
 * The simulation. A trainer hands over some of the steps 0 .. STEPS-1 (the
 * others it dropped), one a round from its start on, and then closes.
 */
enum { STEPS = 4, SETS = 1 << STEPS, ROUNDS_MAX = 60 };

struct queue {
    unsigned steps; /* set of all that are ever handed over */
    int start;
    unsigned gone; /* measured or discarded */
};

static bool holds(unsigned set, int step)
{
    return (set >> step & 1U) != 0;
}

/* What has been handed over before this round, and whether that is all. */
static unsigned visible(const struct queue *queue, int round, bool *closed)
{
    unsigned set = 0;
    int at = queue->start;

    for (int step = 0; step < STEPS; step++)
        if (holds(queue->steps, step) && at++ < round)
            set |= 1U << step;
    *closed = at < round;
    return set;
}

static struct ge_view look(const struct queue *queue, int round, bool orderly)
{
    struct ge_view view = WAITING;
    bool closed = false;
    const unsigned here = visible(queue, round, &closed) & ~queue->gone;

    for (int step = 0; step < STEPS; step++) {
        if (holds(here, step)) {
            view.state = GE_VIEW_READY;
            view.step = step;
            return view;
        }
    }
    if (closed) {
        view.state = GE_VIEW_ENDED;
        view.closed = orderly;
    }
    return view;
}

/* A step must be measured if every monitor either has it, or has died before
 * it; no monitor may end in order before it. */
static unsigned due(const struct queue *queues, bool orderly)
{
    unsigned set = 0;

    for (int step = 0; step < STEPS; step++) {
        bool owned = false, missed = false;

        for (size_t m = 0; m < MONITORS; m++) {
            const bool ended = !orderly && queues[m].steps >> step == 0;

            owned = owned || holds(queues[m].steps, step);
            missed = missed || (!holds(queues[m].steps, step) && !ended);
        }
        if (owned && !missed)
            set |= 1U << step;
    }
    return set;
}

static void measure(struct queue *queues, const struct ge_view *views,
                    int64_t step)
{
    for (size_t m = 0; m < MONITORS; m++) {
        if (views[m].state == GE_VIEW_READY) {
            assert_true(views[m].step == step); /* never mixed */
            queues[m].gone |= 1U << step;
        } else {
            assert_int_equal(views[m].state, GE_VIEW_ENDED);
        }
    }
}

static void advance(struct queue *queues, const struct ge_view *views,
                    int64_t step)
{
    bool moved = false;

    for (size_t m = 0; m < MONITORS; m++) {
        if (views[m].state != GE_VIEW_READY || views[m].step >= step)
            continue;
        queues[m].gone |= (1U << step) - 1U;
        moved = true;
    }
    assert_true(moved); /* else they vote for ever */
}

static bool any(const struct ge_view *views, int state)
{
    for (size_t m = 0; m < MONITORS; m++)
        if ((int)views[m].state == state)
            return true;
    return false;
}

/* Run to the end; the set of measured steps. */
static unsigned run(struct queue *queues, bool orderly)
{
    unsigned measured = 0;

    for (int round = 0; round < ROUNDS_MAX; round++) {
        struct ge_view views[MONITORS];

        for (size_t m = 0; m < MONITORS; m++)
            views[m] = look(&queues[m], round, orderly);
        const struct ge_verdict verdict = decide(views, MONITORS);

        switch (verdict.action) {
        case GE_VERDICT_MEASURE:
            assert_true(measured >> verdict.step == 0); /* in order, once */
            measure(queues, views, verdict.step);
            measured |= 1U << verdict.step;
            break;
        case GE_VERDICT_ADVANCE:
            advance(queues, views, verdict.step);
            break;
        case GE_VERDICT_WAIT:
            assert_true(any(views, GE_VIEW_WAITING));
            break;
        case GE_VERDICT_END:
            assert_false(any(views, GE_VIEW_READY));
            assert_false(any(views, GE_VIEW_WAITING));
            return measured;
        case GE_VERDICT_FAIL:
            fail_msg("nobody failed");
        }
    }
    fail_msg("the votes do not end");
    return 0;
}

/* Every choice of steps and starts. */
static void run_all(bool orderly)
{
    static const int starts[] = {0, 1, 4};
    const size_t pace = COUNT_OF(starts);
    size_t runs = 0;

    for (unsigned sets = 0; sets < SETS * SETS * SETS; sets++) {
        for (size_t late = 0; late < pace * pace * pace; late++) {
            struct queue queues[MONITORS] = {
                {sets % SETS, starts[late % pace], 0},
                {sets / SETS % SETS, starts[late / pace % pace], 0},
                {sets / SETS / SETS, starts[late / pace / pace], 0}};

            assert_int_equal(run(queues, orderly), due(queues, orderly));
            runs++;
        }
    }
    print_message("%zu runs\n", runs);
    assert_int_equal(runs, 4096 * 27);
}

static void when_trainers_die_the_others_are_measured(void **state)
{
    (void)state;
    run_all(false);
}

static void when_a_trainer_closes_only_what_all_share_is_measured(void **state)
{
    (void)state;
    run_all(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vote_has_its_verdict),
        cmocka_unit_test(one_monitor_agrees_with_itself),
        cmocka_unit_test(the_worst_loss_is_known_to_all),
        cmocka_unit_test(when_trainers_die_the_others_are_measured),
        cmocka_unit_test(when_a_trainer_closes_only_what_all_share_is_measured),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
