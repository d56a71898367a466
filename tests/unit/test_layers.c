/* The layer table: what is selected, what tells two tables apart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "layers.h"
#include "message.h"
#include "numbers.h"

#define assert_ok(call) assert_int_equal((call), GRADECHO_OK)

struct shape {
    const char *name;
    uint64_t rows, cols;
};

static struct ge_layers table_of(const struct shape *shapes, size_t count)
{
    struct ge_layers layers;

    assert_ok(ge_layers_init(&layers, count));
    for (size_t i = 0; i < count; i++)
        assert_ok(ge_layers_put(&layers, i, shapes[i].name, shapes[i].rows,
                                shapes[i].cols));
    return layers;
}

static const struct shape net[] = {
    {"conv1.weight", 32, 75}, {"conv1.bias", 32, 1},  {"norm.weight", 1, 128},
    {"fc1.weight", 10, 640},  {"fc2.weight", 2, 2},   {"head.weight", 640, 10},
    {"head.scale", 1, 1},     {"embed", 100000, 300},
};
enum { NET = COUNT_OF(net) };

static struct ge_config config_of(const char *const *settings, size_t count)
{
    struct ge_config config;

    assert_ok(ge_config_init(&config));
    for (size_t i = 0; i < count; i++)
        assert_ok(ge_config_set(&config, settings[i]));
    return config;
}

static void a_layer_keeps_what_it_was_told(void **state)
{
    struct ge_layers layers = table_of(net, NET);

    (void)state;
    assert_int_equal(layers.count, NET);
    for (size_t i = 0; i < NET; i++) {
        assert_string_equal(layers.item[i].name, net[i].name);
        assert_ptr_not_equal(layers.item[i].name, net[i].name);
        assert_int_equal(layers.item[i].rows, net[i].rows);
        assert_int_equal(layers.item[i].cols, net[i].cols);
        assert_int_equal(layers.item[i].entries, net[i].rows * net[i].cols);
    }
    ge_layers_fini(&layers);
    assert_int_equal(layers.count, 0);
    assert_null(layers.item);
    ge_layers_fini(&layers);
}

static void half_a_table_can_be_released(void **state)
{
    struct ge_layers layers;

    (void)state;
    assert_ok(ge_layers_init(&layers, 5));
    assert_ok(ge_layers_put(&layers, 3, "only", 2, 3));
    ge_layers_fini(&layers);
    assert_null(layers.item);
    assert_ok(ge_layers_init(&layers, 0));
    assert_int_equal(ge_layers_largest(&layers, false), 0);
    ge_layers_fini(&layers);
}

static void layers_that_do_not_fit_the_machine_are_refused(void **state)
{
    static const struct shape table[] = {
        {"huge", UINT64_C(1) << 32, UINT64_C(1) << 32},
        {"huge", UINT64_MAX, 2},
        {"huge", UINT64_C(1) << 31, UINT64_C(1) << 31},
        {"huge", UINT64_MAX / 8 + 1, 1},
    };
    const int before = ge_message_capture(1);

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct ge_layers layers;

        assert_ok(ge_layers_init(&layers, 1));
        assert_int_equal(ge_layers_put(&layers, 0, table[i].name, table[i].rows,
                                       table[i].cols),
                         GRADECHO_E_INPUT);
        assert_string_equal(ge_message_last(), "layer huge is too large");
        assert_null(layers.item[0].name);
        ge_layers_fini(&layers);
    }
    ge_message_capture(before);
}

static void every_matrix_is_selected_unless_told_otherwise(void **state)
{
    struct ge_layers layers = table_of(net, NET);
    struct ge_config config = config_of(NULL, 0);
    static const struct {
        size_t modes, found;
    } expected[NET] = {{16, 24}, {0, 0},   {0, 0}, {10, 10},
                       {2, 2},   {10, 10}, {0, 0}, {16, 24}};

    (void)state;
    ge_layers_select(&layers, &config);
    for (size_t i = 0; i < NET; i++) {
        assert_int_equal(layers.item[i].modes, expected[i].modes);
        assert_int_equal(layers.item[i].found, expected[i].found);
    }
    ge_config_fini(&config);
    ge_layers_fini(&layers);
}

static void globs_include_and_exclude(void **state)
{
    static const struct {
        const char *settings[2];
        const char *selected; /* a letter for each layer of `net` */
    } table[] = {
        {{"layers.include=[\"*.weight\"]", "layers.exclude=[]"}, "x..xxx.."},
        {{"layers.include=[\"fc*\", embed]", "layers.exclude=[]"}, "...xx..x"},
        {{"layers.include=[\"*\"]", "layers.exclude=[\"fc?.*\", \"e*\"]"},
         "x....x.."},
        {{"layers.include=[fc1.weight]", "layers.exclude=[\"*\"]"}, "........"},
        {{"layers.include=[]", "layers.exclude=[]"}, "........"},
        {{"layers.include=[fc1]", "layers.exclude=[]"}, "........"},
        {{"layers.include=[\"fc[13].weight\"]", "layers.exclude=[]"},
         "...x...."},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        struct ge_layers layers = table_of(net, NET);
        struct ge_config config = config_of(table[i].settings, 2);
        char selected[NET + 1] = "";

        ge_layers_select(&layers, &config);
        for (size_t l = 0; l < NET; l++)
            selected[l] = layers.item[l].modes > 0 ? 'x' : '.';
        assert_string_equal(selected, table[i].selected);
        ge_config_fini(&config);
        ge_layers_fini(&layers);
    }
}

static void the_last_selection_counts(void **state)
{
    static const char *const none[] = {"layers.include=[]"};
    static const char *const few[] = {"layers.max_modes=3", "svd.oversample=0"};
    struct ge_layers layers = table_of(net, NET);
    struct ge_config all = config_of(NULL, 0), nothing = config_of(none, 1);
    struct ge_config three = config_of(few, 2);

    (void)state;
    ge_layers_select(&layers, &all);
    ge_layers_select(&layers, &three);
    assert_int_equal(layers.item[0].modes, 3);
    assert_int_equal(layers.item[0].found, 3);
    assert_int_equal(layers.item[4].modes, 2);
    ge_layers_select(&layers, &nothing);
    for (size_t i = 0; i < NET; i++) {
        assert_int_equal(layers.item[i].modes, 0);
        assert_int_equal(layers.item[i].found, 0);
    }
    ge_config_fini(&all);
    ge_config_fini(&nothing);
    ge_config_fini(&three);
    ge_layers_fini(&layers);
}

static void the_largest_layer_sizes_the_buffers(void **state)
{
    static const char *const settings[] = {"layers.exclude=[embed]"};
    struct ge_layers layers = table_of(net, NET);
    struct ge_config config = config_of(settings, 1);

    (void)state;
    ge_layers_select(&layers, &config);
    assert_int_equal(ge_layers_largest(&layers, false), 30000000);
    assert_int_equal(ge_layers_largest(&layers, true), 6400);
    ge_config_fini(&config);
    ge_layers_fini(&layers);
}

static uint64_t hash_of(const struct shape *shapes, size_t count)
{
    struct ge_layers layers = table_of(shapes, count);
    const uint64_t hash = ge_layers_hash(&layers);

    ge_layers_fini(&layers);
    return hash;
}

static void equal_tables_have_equal_hashes(void **state)
{
    static const char *const few[] = {"layers.max_modes=3"};
    struct ge_layers layers = table_of(net, NET);
    struct ge_config config = config_of(few, 1);

    (void)state;
    ge_layers_select(&layers, &config); /* is not the tables' business */
    assert_true(ge_layers_hash(&layers) == hash_of(net, NET));
    ge_config_fini(&config);
    ge_layers_fini(&layers);
}

static void names_shapes_and_order_tell_tables_apart(void **state)
{
    static const struct {
        struct shape layer[3];
        size_t count;
    } table[] = {
        {{{"a", 2, 3}, {"b", 4, 5}}, 2},
        {{{"b", 4, 5}, {"a", 2, 3}}, 2}, /* order */
        {{{"a", 3, 2}, {"b", 4, 5}}, 2}, /* transposed */
        {{{"a", 6, 1}, {"b", 4, 5}}, 2}, /* as many entries */
        {{{"a", 4, 5}, {"b", 2, 3}}, 2}, /* shapes swapped */
        {{{"c", 2, 3}, {"b", 4, 5}}, 2}, /* name */
        {{{"ab", 2, 3}, {"", 4, 5}}, 2}, /* name moved over */
        {{{"", 2, 3}, {"ab", 4, 5}}, 2},
        {{{"a", 2, 3}}, 1},                           /* fewer */
        {{{"a", 2, 3}, {"b", 4, 5}, {"b", 4, 5}}, 3}, /* repeated */
        {{{0}}, 0},
    };
    uint64_t hash[COUNT_OF(table)];

    (void)state;
    for (size_t i = 0; i < COUNT_OF(table); i++) {
        hash[i] = hash_of(table[i].layer, table[i].count);
        for (size_t j = 0; j < i; j++)
            assert_true(hash[i] != hash[j]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_keeps_what_it_was_told),
        cmocka_unit_test(half_a_table_can_be_released),
        cmocka_unit_test(layers_that_do_not_fit_the_machine_are_refused),
        cmocka_unit_test(every_matrix_is_selected_unless_told_otherwise),
        cmocka_unit_test(globs_include_and_exclude),
        cmocka_unit_test(the_last_selection_counts),
        cmocka_unit_test(the_largest_layer_sizes_the_buffers),
        cmocka_unit_test(equal_tables_have_equal_hashes),
        cmocka_unit_test(names_shapes_and_order_tell_tables_apart),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
