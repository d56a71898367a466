/* How monitors agree on a step: a table of votes. test_agree_model.c goes
 * through all that may happen between votes. */
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

#define READY(s)                                    \
    {                                               \
        .ready = true, .oldest = (s), .newest = (s) \
    }
#define SPREAD(from, to)                                \
    {                                                   \
        .ready = true, .oldest = (from), .newest = (to) \
    }
#define WAITING         \
    {                   \
        .waiting = true \
    }
#define WAITING_AT(s)                                                \
    {                                                                \
        .ready = true, .oldest = (s), .newest = (s), .waiting = true \
    }
#define CLOSED         \
    {                  \
        .closed = true \
    }
#define ENDED       \
    {               \
        .status = 0 \
    }
#define STOPPED(s)                                                \
    {                                                             \
        .ready = true, .oldest = (s), .newest = (s), .stop = true \
    }
#define FAILING(s, code)                                              \
    {                                                                 \
        .ready = true, .oldest = (s), .newest = (s), .status = (code) \
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
    {"one has several, all the same but for one",
     {READY(7), SPREAD(5, 7), READY(7)},
     GE_VERDICT_ADVANCE,
     7,
     0},
    {"one has several, one of them newer",
     {READY(7), SPREAD(7, 8), READY(7)},
     GE_VERDICT_ADVANCE,
     8,
     0},
    {"one waits for one and has another",
     {READY(7), WAITING_AT(7), READY(7)},
     GE_VERDICT_WAIT,
     -1,
     0},
    {"one waits, and keeps a slot with what is too old",
     {READY(7), WAITING_AT(5), READY(7)},
     GE_VERDICT_ADVANCE,
     7,
     0},
    {"one closed, the others go on",
     {READY(7), CLOSED, READY(7)},
     GE_VERDICT_ADVANCE,
     INT64_MAX,
     0},
    {"one closed, the others may go on",
     {WAITING, CLOSED, ENDED},
     GE_VERDICT_WAIT,
     -1,
     0},
    {"one closed, the others died",
     {ENDED, CLOSED, ENDED},
     GE_VERDICT_END,
     -1,
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

/* ---- where the monitors meet ---- */

static struct ge_verdict advance(int64_t step)
{
    return (struct ge_verdict){.action = GE_VERDICT_ADVANCE, .step = step};
}

static void meet_after(struct ge_meeting *meeting, int64_t newest,
                       int64_t expected)
{
    struct ge_verdict verdict = advance(newest);

    ge_agree_meet(meeting, &verdict);
    assert_int_equal(verdict.action, GE_VERDICT_ADVANCE);
    assert_true(verdict.step == expected);
}

static void measure(struct ge_meeting *meeting, int times)
{
    struct ge_verdict verdict = {.action = GE_VERDICT_MEASURE, .step = 3};

    while (times-- > 0)
        ge_agree_meet(meeting, &verdict);
    assert_true(verdict.step == 3);
}

static void who_missed_the_others_meets_them_further_ahead(void **state)
{
    struct ge_meeting meeting = {.every = 5};
    struct ge_verdict wait = {.action = GE_VERDICT_WAIT, .step = 10};

    (void)state;
    meet_after(&meeting, 10, 10);
    measure(&meeting, 1); /* that was enough */
    meet_after(&meeting, 20, 20);
    ge_agree_meet(&meeting, &wait); /* says nothing */
    assert_true(wait.step == 10);
    meet_after(&meeting, 25, 30);
    meet_after(&meeting, 35, 45);
    meet_after(&meeting, 50, 70);
    measure(&meeting, 1); /* 4 ahead did; next time 3 */
    meet_after(&meeting, 75, 90);
    measure(&meeting, 2);
    meet_after(&meeting, 95, 100);
    measure(&meeting, 10);
    meet_after(&meeting, 200, 200);
}

static void a_meeting_is_not_out_of_reach(void **state)
{
    struct ge_meeting meeting = {.every = 1000000000};
    struct ge_verdict verdict;

    (void)state;
    for (int i = 0; i < 100; i++) {
        verdict = advance(7);
        ge_agree_meet(&meeting, &verdict);
    }
    assert_true(verdict.step == 7 + GE_MEETING_AHEAD_MAX * meeting.every);
    meet_after(&meeting, INT64_MAX - 1, INT64_MAX - 1); /* or it would wrap */
}

/* Two trainers in step, a step a tick, and a monitor for each. A round of the
 * monitors takes four ticks: monitor 0 acts and looks at its beginning, monitor
 * 1 three ticks later, then they vote. */
enum { TRAINERS = 2, SLOTS = 2, ROUND = 4, TICKS = 4000 };

struct pair {
    int64_t queue[TRAINERS][SLOTS], from[TRAINERS];
    int length[TRAINERS];
    struct ge_view view[TRAINERS];
    struct ge_verdict verdict;
};

static void train(struct pair *p, int64_t step)
{
    for (int t = 0; t < TRAINERS; t++)
        if (step >= p->from[t] && p->length[t] < SLOTS)
            p->queue[t][p->length[t]++] = step;
}

static void act_and_look(struct pair *p, int t)
{
    if (p->verdict.action == GE_VERDICT_MEASURE)
        p->from[t] = p->verdict.step + 1;
    else if (p->verdict.action == GE_VERDICT_ADVANCE)
        p->from[t] = p->verdict.step;
    while (p->length[t] > 0 && p->queue[t][0] < p->from[t]) {
        p->queue[t][0] = p->queue[t][1];
        p->length[t]--;
    }
    p->view[t] = p->length[t] > 0 ? (struct ge_view)READY(p->queue[t][0])
                                  : (struct ge_view)WAITING;
}

/* \return samples measured */
static int simulate(bool meets)
{
    struct pair p = {.verdict = {.action = GE_VERDICT_WAIT}};
    struct ge_meeting meeting = {.every = 1};
    int measured = 0;

    for (int64_t tick = 0; tick < TICKS; tick++) {
        train(&p, tick);
        if (tick % ROUND == 0)
            act_and_look(&p, 0);
        if (tick % ROUND != ROUND - 1)
            continue;
        act_and_look(&p, 1);
        p.verdict = decide(p.view, TRAINERS);
        if (meets)
            ge_agree_meet(&meeting, &p.verdict);
        measured += p.verdict.action == GE_VERDICT_MEASURE;
    }
    return measured;
}

static void monitors_slower_than_a_step_meet(void **state)
{
    const int without = simulate(false), with = simulate(true);

    (void)state;
    print_message("of %d steps, %d are measured; %d if monitors only move up\n",
                  TICKS, with, without);
    assert_true(with > TICKS / (8 * ROUND)); /* an eighth of all rounds */
    assert_true(without < with / 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_vote_has_its_verdict),
        cmocka_unit_test(one_monitor_agrees_with_itself),
        cmocka_unit_test(the_worst_loss_is_known_to_all),
        cmocka_unit_test(who_missed_the_others_meets_them_further_ahead),
        cmocka_unit_test(a_meeting_is_not_out_of_reach),
        cmocka_unit_test(monitors_slower_than_a_step_meet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
