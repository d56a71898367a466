/* Status texts, allocation and messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "memory.h"
#include "message.h"
#include "numbers.h"
#include "try.h"

#define ROW(name, value, text) {name, value, text},
static const struct {
    gradecho_status status;
    int value;
    const char *text;
} statuses[] = {GRADECHO_STATUS_MAP(ROW)};

static void every_status_has_its_own_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        assert_int_equal(statuses[i].status, statuses[i].value);
        assert_string_equal(ge_status_text(statuses[i].status),
                            statuses[i].text);
        for (size_t j = 0; j < i; j++) {
            assert_int_not_equal(statuses[i].value, statuses[j].value);
            assert_string_not_equal(statuses[i].text, statuses[j].text);
        }
    }
}

static void a_status_of_tomorrow_has_a_text(void **state)
{
    (void)state;
    assert_string_equal(ge_status_text((gradecho_status)-99), "unknown status");
    assert_string_equal(ge_status_text((gradecho_status)99), "unknown status");
}

static void exit_codes_tell_whose_fault_it_is(void **state)
{
    static const gradecho_status users[] = {GRADECHO_E_ARG, GRADECHO_E_USAGE,
                                            GRADECHO_E_INPUT, GRADECHO_E_EXISTS,
                                            GRADECHO_E_ABI};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(statuses); i++) {
        int expected = statuses[i].status < GRADECHO_OK ? 1 : 0;

        for (size_t j = 0; j < COUNT_OF(users); j++)
            if (users[j] == statuses[i].status)
                expected = 2;
        assert_int_equal(ge_status_exit_code(statuses[i].status), expected);
    }
    assert_int_equal(ge_status_exit_code((gradecho_status)-99), 1);
}

/* Statuses are in use by trainers: their values may not move. */
static void values_are_stable(void **state)
{
    (void)state;
    assert_int_equal(GRADECHO_OK, 0);
    assert_int_equal(GRADECHO_NOT_WANTED, 1);
    assert_int_equal(GRADECHO_AGAIN, 4);
    assert_int_equal(GRADECHO_E_NUMERIC, -1);
    assert_int_equal(GRADECHO_E_INPUT, -5);
    assert_int_equal(GRADECHO_E_NOMEM, -8);
    assert_int_equal(GRADECHO_E_MPI, -12);
}

static void products_that_wrap_are_refused(void **state)
{
    static const struct {
        uint64_t a, b;
        bool fits;
    } table[] = {
        {0, 0, true},
        {0, UINT64_MAX, true},
        {UINT64_MAX, 0, true},
        {1, UINT64_MAX, true},
        {UINT64_MAX, 1, true},
        {UINT64_MAX, 2, false},
        {2, UINT64_MAX, false},
        {UINT64_C(1) << 32, UINT64_C(1) << 32, false},
        {UINT64_C(1) << 32, (UINT64_C(1) << 32) - 1, true},
        {UINT64_MAX / 3, 3, true},
        {UINT64_MAX / 3 + 1, 3, false},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        uint64_t out = 42;

        assert_int_equal(ge_mul_u64(table[i].a, table[i].b, &out),
                         table[i].fits);
        assert_true(out == (table[i].fits ? table[i].a * table[i].b : 42));
    }
}

static void sums_that_wrap_are_refused(void **state)
{
    uint64_t out = 42;

    (void)state;
    assert_false(ge_add_u64(UINT64_MAX, 1, &out));
    assert_false(ge_add_u64(1, UINT64_MAX, &out));
    assert_true(out == 42);
    assert_true(ge_add_u64(UINT64_MAX, 0, &out));
    assert_true(out == UINT64_MAX);
    assert_true(ge_add_u64(UINT64_MAX - 5, 5, &out));
    assert_true(out == UINT64_MAX);
}

static void sizes_are_rounded_up_to_the_alignment(void **state)
{
    const uint64_t last = UINT64_MAX - (GE_ALIGNMENT - 1);
    uint64_t out = 42;

    (void)state;
    for (uint64_t value = 0; value < 200; value++) {
        assert_true(ge_align_u64(value, &out));
        assert_true(out % GE_ALIGNMENT == 0);
        assert_true(out >= value && out < value + GE_ALIGNMENT);
    }
    assert_true(ge_align_u64(last, &out));
    assert_true(out == last);
    out = 42;
    assert_false(ge_align_u64(last + 1, &out));
    assert_false(ge_align_u64(UINT64_MAX, &out));
    assert_true(out == 42);
}

static void assert_zero_block(unsigned char *block, size_t bytes)
{
    assert_non_null(block);
    for (size_t i = 0; i < bytes; i++)
        assert_int_equal(block[i], 0);
    free(block);
}

static void blocks_are_zero_and_aligned(void **state)
{
    static const size_t counts[] = {0, 1, 7, 64, 65, 1000};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(counts); i++) {
        unsigned char *block = ge_alloc_aligned(counts[i], 3);

        assert_true((uintptr_t)block % GE_ALIGNMENT == 0);
        assert_zero_block(block, ge_max_size(counts[i], 1) * 3);
        assert_zero_block(ge_alloc(counts[i], 3),
                          ge_max_size(counts[i], 1) * 3);
    }
}

static void blocks_that_do_not_fit_are_refused(void **state)
{
    /* Not constants: the compiler would object. */
    volatile size_t huge = SIZE_MAX;

    (void)state;
    assert_null(ge_alloc(huge, 2));
    assert_null(ge_alloc(huge / 2 + 1, 2));
    assert_null(ge_alloc_aligned(huge, 1)); /* rounding up wraps */
    assert_null(ge_alloc_aligned(huge, 2));
    assert_null(ge_alloc_aligned(huge / 2 + 1, 2));
}

static void least_and_most_of_two(void **state)
{
    (void)state;
    assert_int_equal(ge_min_size(1, 2), 1);
    assert_int_equal(ge_min_size(2, 1), 1);
    assert_int_equal(ge_max_size(1, 2), 2);
    assert_int_equal(ge_max_size(2, 1), 2);
}

static void captured_errors_are_kept_and_not_printed(void **state)
{
    (void)state;
    assert_int_equal(ge_message_capture(1), 0);
    ge_error("layer %s has %d rows", "fc1", 7);
    assert_string_equal(ge_message_last(), "layer fc1 has 7 rows");
    ge_warn("not an error");
    ge_info("not an error");
    ge_debug("not an error");
    assert_string_equal(ge_message_last(), "layer fc1 has 7 rows");
    assert_int_equal(ge_message_capture(1), 1);
    ge_error("another");
    assert_int_equal(ge_message_capture(0), 1);
    assert_string_equal(ge_message_last(), "another");
}

static void a_long_message_is_cut(void **state)
{
    static char text[3 * GE_MESSAGE_MAX];
    const int before = ge_message_capture(1);

    (void)state;
    memset(text, 'x', sizeof text - 1);
    ge_error("%s", text);
    assert_int_equal(strlen(ge_message_last()), GE_MESSAGE_MAX - 1);
    ge_message_capture(before);
}

/* What `speak` writes to standard error. */
static void listen(void (*speak)(void), char *heard, size_t size)
{
    FILE *file = tmpfile();
    const int terminal = dup(STDERR_FILENO);

    assert_non_null(file);
    assert_true(terminal >= 0);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    speak();
    fflush(stderr);
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    rewind(file);
    heard[fread(heard, 1, size - 1, file)] = '\0';
    fclose(file);
}

static void speak_at_all_levels(void)
{
    ge_error("a %d", 1);
    ge_warn("b");
    ge_info("c");
    ge_debug("d");
}

static void messages_go_to_standard_error_by_level_and_rank(void **state)
{
    static const struct {
        enum ge_level level;
        int rank;
        const char *heard;
    } table[] = {
        {GE_ERROR, -1, "gradecho: error: a 1\n"},
        {GE_WARN, -1, "gradecho: error: a 1\ngradecho: warning: b\n"},
        {GE_INFO, 3,
         "gradecho[3]: error: a 1\ngradecho[3]: warning: b\n"
         "gradecho[3]: c\n"},
        {GE_DEBUG, 0,
         "gradecho[0]: error: a 1\ngradecho[0]: warning: b\n"
         "gradecho[0]: c\ngradecho[0]: debug: d\n"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char heard[256];

        ge_message_init(table[i].level, table[i].rank);
        listen(speak_at_all_levels, heard, sizeof heard);
        assert_string_equal(heard, table[i].heard);
    }
    ge_message_init(GE_INFO, -1);
}

static gradecho_status forward(gradecho_status from, int *reached)
{
    gradecho_status status = GRADECHO_OK;

    GE_TRY(from);
    (*reached)++;
    GE_FAIL_IF(from == GRADECHO_END, GRADECHO_E_INPUT, "%s", "the end");
    (*reached)++;
fail:
    return status;
}

static void trying_forwards_errors_and_passes_outcomes(void **state)
{
    const int before = ge_message_capture(1);
    int reached = 0;

    (void)state;
    assert_int_equal(forward(GRADECHO_E_SYS, &reached), GRADECHO_E_SYS);
    assert_int_equal(reached, 0);
    assert_int_equal(forward(GRADECHO_AGAIN, &reached), GRADECHO_AGAIN);
    assert_int_equal(reached, 2);
    assert_int_equal(forward(GRADECHO_END, &reached), GRADECHO_E_INPUT);
    assert_int_equal(reached, 3);
    assert_string_equal(ge_message_last(), "the end");
    ge_message_capture(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_its_own_text),
        cmocka_unit_test(a_status_of_tomorrow_has_a_text),
        cmocka_unit_test(exit_codes_tell_whose_fault_it_is),
        cmocka_unit_test(values_are_stable),
        cmocka_unit_test(products_that_wrap_are_refused),
        cmocka_unit_test(sums_that_wrap_are_refused),
        cmocka_unit_test(sizes_are_rounded_up_to_the_alignment),
        cmocka_unit_test(blocks_are_zero_and_aligned),
        cmocka_unit_test(blocks_that_do_not_fit_are_refused),
        cmocka_unit_test(least_and_most_of_two),
        cmocka_unit_test(captured_errors_are_kept_and_not_printed),
        cmocka_unit_test(a_long_message_is_cut),
        cmocka_unit_test(messages_go_to_standard_error_by_level_and_rank),
        cmocka_unit_test(trying_forwards_errors_and_passes_outcomes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
