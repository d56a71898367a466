/* Edit distances, what a mistyped word was meant to be, and progress. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "numbers.h"
#include "progress.h"
#include "suggest.h"

static void distances_are_known(void **state)
{
    static const struct {
        const char *a, *b;
        size_t distance;
    } table[] = {
        {"", "", 0},         {"", "abc", 3},
        {"abc", "abc", 0},   {"abc", "ABC", 0},
        {"abc", "abd", 1},   {"abc", "ab", 1},
        {"abc", "xabc", 1},  {"abc", "acb", 1},
        {"abcd", "badc", 2}, {"kitten", "sitting", 3},
        {"ca", "abc", 3},    {"every", "evrey", 1},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        assert_int_equal(ge_edit_distance(table[i].a, table[i].b),
                         table[i].distance);
        assert_int_equal(ge_edit_distance(table[i].b, table[i].a),
                         table[i].distance);
    }
}

static void long_words_are_cut(void **state)
{
    char a[3 * GE_SUGGEST_MAX], b[3 * GE_SUGGEST_MAX];

    (void)state;
    memset(a, 'a', sizeof a - 1);
    memset(b, 'a', sizeof b - 1);
    a[sizeof a - 1] = b[sizeof b - 1] = '\0';
    b[sizeof b - 2] = 'b';
    assert_int_equal(ge_edit_distance(a, b), 0);
    assert_int_equal(ge_edit_distance(a, ""), GE_SUGGEST_MAX);
}

static void what_is_near_is_suggested(void **state)
{
    static const char *const words[] = {"monitor", "replay", "inspect",
                                        "export", "doctor"};
    static const struct {
        const char *typed, *meant;
    } table[] = {
        {"monitr", "monitor"}, {"rpelay", "replay"}, {"INSPECT", "inspect"},
        {"exprot", "export"},  {"mon", "monitor"},   {"nonsense", NULL},
        {"xyz", NULL},         {"", NULL},           {"r", NULL},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct ge_suggestion s = {.word = table[i].typed};

        for (size_t w = 0; w < COUNT_OF(words); w++)
            ge_suggest(&s, words[w]);
        if (table[i].meant == NULL)
            assert_null(ge_suggested(&s));
        else
            assert_string_equal(ge_suggested(&s), table[i].meant);
    }
}

static void nothing_offered_is_nothing_suggested(void **state)
{
    const struct ge_suggestion s = {.word = "word"};

    (void)state;
    assert_null(ge_suggested(&s));
}

static void the_caller_may_know_the_distance(void **state)
{
    struct ge_suggestion s = {.word = "every"};

    (void)state;
    ge_suggest(&s, "sample.every");
    assert_null(ge_suggested(&s));
    ge_suggest_at(&s, "sample.every", 1);
    assert_string_equal(ge_suggested(&s), "sample.every");
    ge_suggest_at(&s, "later", 1); /* the first of equals stays */
    assert_string_equal(ge_suggested(&s), "sample.every");
}

static void near_names(const char *glob, const char *const *names, size_t count,
                       const char *expected)
{
    struct ge_near near = {.glob = glob};
    char text[128];

    for (size_t i = 0; i < count; i++)
        ge_near_offer(&near, names[i]);
    assert_string_equal(ge_near_text(&near, text, sizeof text), expected);
}

static void names_near_a_glob_are_told(void **state)
{
    static const char *const names[] = {"embed", "block.0.attn.weight",
                                        "block.0.mlp.weight",
                                        "block.1.attn.bias", "head"};

    (void)state;
    near_names("blok.0*", names, 5,
               "there is block.0.attn.weight, block.0.mlp.weight, "
               "block.1.attn.bias");
    near_names("*wieght", names, 3,
               "there is block.0.attn.weight, block.0.mlp.weight, embed");
    near_names("haed", names, 2, "there is embed, block.0.attn.weight");
    near_names("x", names, 0, "there is none");
    near_names("x", (const char *const[]){"a\nb\033[2J"}, 1,
               "there is a?b?[2J");
}

static void what_does_not_fit_is_cut(void **state)
{
    struct ge_near near = {.glob = "x"};
    char text[16];

    (void)state;
    ge_near_offer(&near, "a name that is too long");
    ge_near_offer(&near, "another");
    assert_string_equal(ge_near_text(&near, text, sizeof text),
                        "there is a name");
}

static void progress_is_one_line(void **state)
{
    const struct ge_progress p = {.what = "sample", .first = 100, .total = 900};
    static const struct {
        uint64_t done;
        double seconds;
        size_t width;
        const char *text;
    } table[] = {
        {100, 0.5, 60,
         "sample 100 of 900 [####------------------------------------]"},
        {500, 10, 60,
         "sample 500 of 900 [############----------] 40.0/s, "
         "10 s left"},
        {900, 4, 55, "sample 900 of 900 [###################] 200/s, 0 s left"},
        {200, 100, 60,
         "sample 200 of 900 [###-------------] 1.0/s, "
         "11 min 40 s left"},
        {101, 100, 40, "sample 101 of 900 0.0/s, 22 h 11 min lef"},
        {500, 10, 6, "sample"},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        char text[100];

        assert_string_equal(ge_progress_text(&p, table[i].done,
                                             table[i].seconds, text,
                                             table[i].width),
                            table[i].text);
        assert_true(strlen(text) <= table[i].width);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distances_are_known),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(what_is_near_is_suggested),
        cmocka_unit_test(nothing_offered_is_nothing_suggested),
        cmocka_unit_test(the_caller_may_know_the_distance),
        cmocka_unit_test(names_near_a_glob_are_told),
        cmocka_unit_test(what_does_not_fit_is_cut),
        cmocka_unit_test(progress_is_one_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
