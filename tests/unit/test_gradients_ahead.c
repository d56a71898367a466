/* What is read ahead of a mapped file of gradients, and what is let go: seen by
 * the hints that the system is given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <hdf5.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "gradients.h"
#include "log_temp.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

enum { SAMPLES = 6, REPLICAS = 3, FIRST = 1, HERE = 2 };
/* Entries: large, small, read by HDF5, and large with an odd end. */
enum { LAYERS = 4, PIECE = 1 << 16, CHUNKED = 2 };
static const hsize_t entries[LAYERS] = {1 << 20, 1 << 10, 1 << 12,
                                        (3 << 19) + 3};

#define WINDOW_MOST ((uint64_t)64 << 20) /* of all replicas, by gradients.h */
#define SURELY ((uint64_t)4 << 20)       /* what each may count on */

/* ---- the hints ---- */

static struct {
    pthread_mutex_t lock;
    bool fails;
    uintptr_t base; /* what the whole file lies in */
    size_t bytes;
    bool outside;
    /* By page: */
    unsigned char *asked, *forgotten;
} hints = {.lock = PTHREAD_MUTEX_INITIALIZER};

static size_t page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static void note(uintptr_t at, size_t bytes, unsigned char *marks)
{
    if (at < hints.base ||
        at + bytes >
            hints.base + (hints.bytes + page() - 1) / page() * page()) {
        hints.outside = true;
        return;
    }
    for (size_t done = 0; done < bytes; done += page())
        marks[(at - hints.base + done) / page()] = 1;
}

/* In the place of the C library's. */
int madvise(void *at, size_t bytes, int advice)
{
    bool fails = false;

    pthread_mutex_lock(&hints.lock);
    if (hints.base == 0 && advice == MADV_SEQUENTIAL) {
        hints.base = (uintptr_t)at;
        hints.bytes = bytes;
        hints.asked = calloc(bytes / page() + 1, 1);
        hints.forgotten = calloc(bytes / page() + 1, 1);
        if (hints.asked == NULL || hints.forgotten == NULL)
            abort();
    }
    if (advice == MADV_POPULATE_READ || advice == MADV_WILLNEED)
        note((uintptr_t)at, bytes, hints.asked);
    if (advice == MADV_DONTNEED && hints.base != 0)
        note((uintptr_t)at, bytes, hints.forgotten);
    fails = hints.fails;
    pthread_mutex_unlock(&hints.lock);
    if (fails) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, at, bytes, advice);
}

static void clear(unsigned char *marks)
{
    pthread_mutex_lock(&hints.lock);
    memset(marks, 0, hints.bytes / page() + 1);
    pthread_mutex_unlock(&hints.lock);
}

static void forget_hints(void)
{
    free(hints.asked);
    free(hints.forgotten);
    hints.asked = hints.forgotten = NULL;
    hints.base = 0;
    hints.fails = hints.outside = false;
}

/* How many of the pages of some bytes are marked. */
static size_t marked(const void *at, size_t bytes, const unsigned char *marks)
{
    const size_t first = ((uintptr_t)at - hints.base) / page();
    const size_t last = ((uintptr_t)at + bytes - 1 - hints.base) / page();
    size_t count = 0;

    pthread_mutex_lock(&hints.lock);
    for (size_t i = first; i <= last; i++)
        count += marks[i];
    pthread_mutex_unlock(&hints.lock);
    return count;
}

static size_t pages(const void *at, size_t bytes)
{
    return ((uintptr_t)at + bytes - 1) / page() - (uintptr_t)at / page() + 1;
}

/* The thread that reads is given 20 s: fails only if it never does. */
static bool comes_to_be_asked(const void *at, size_t bytes)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    for (int i = 0; i < 20000; i++) {
        if (marked(at, bytes, hints.asked) == pages(at, bytes))
            return true;
        nanosleep(&moment, NULL);
    }
    return false;
}

/* ---- the file ---- */

static void put(hid_t file, int layer)
{
    const hsize_t dims[3] = {SAMPLES, REPLICAS, entries[layer]};
    const hsize_t chunk[3] = {1, 1, entries[layer]};
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    const hid_t create = H5Pcreate(H5P_DATASET_CREATE);
    const hid_t space = H5Screate_simple(3, dims, NULL);
    char name[32];
    hid_t dataset = H5I_INVALID_HID;

    snprintf(name, sizeof name, "/gradients/%d", layer);
    H5Pset_create_intermediate_group(links, 1);
    if (layer == CHUNKED)
        H5Pset_chunk(create, 3, chunk);
    H5Pset_alloc_time(create, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(create, H5D_FILL_TIME_NEVER); /* holes */
    dataset = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, links, create,
                         H5P_DEFAULT);
    assert_true(dataset >= 0);
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(create);
    H5Pclose(links);
}

static ge_gradients *open_file(const char *path)
{
    const hid_t made = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    ge_gradients *file = NULL;

    assert_true(made >= 0);
    for (int layer = 0; layer < LAYERS; layer++)
        put(made, layer);
    assert_int_equal(H5Fclose(made), 0);
    assert_int_equal(ge_gradients_open(path, &file), GRADECHO_OK);
    for (size_t layer = 0; layer < LAYERS; layer++)
        assert_true((ge_gradients_direct(file, 0, 0, layer) != NULL) ==
                    (layer != CHUNKED));
    return file;
}

/* ---- */

typedef void check(ge_gradients *file, uint64_t sample, uint32_t replica,
                   size_t layer, uint64_t first);

/* As the engine does. */
static void walk(ge_gradients *file, uint64_t sample, check *after)
{
    for (size_t layer = 0; layer < LAYERS; layer++)
        for (uint64_t first = 0; first < entries[layer]; first += PIECE)
            for (uint32_t r = FIRST; r < FIRST + HERE; r++) {
                const uint64_t left = entries[layer] - first;

                ge_gradients_use(file, sample, r, layer, first,
                                 left < PIECE ? left : PIECE);
                after(file, sample, r, layer, first);
            }
}

/* What the replica has next, on into other layers and samples, is asked for. */
static void the_next_is_asked(ge_gradients *file, uint64_t sample,
                              uint32_t replica, size_t layer, uint64_t first)
{
    for (uint64_t seen = 0; seen < SURELY && sample < SAMPLES;) {
        const float *at = ge_gradients_direct(file, sample, replica, layer);
        const uint64_t bytes = (entries[layer] - first) * sizeof(float);
        const uint64_t n = bytes < SURELY - seen ? bytes : SURELY - seen;

        if (at != NULL) {
            assert_true(comes_to_be_asked(at + first, n));
            seen += n;
        }
        first = 0;
        layer = (layer + 1) % LAYERS;
        sample += layer == 0;
    }
    assert_false(hints.outside);
}

/* Nothing that is still to be used is let go. */
static void no_more_than_was_used_is_let_go(ge_gradients *file, uint64_t sample,
                                            uint32_t replica, size_t layer,
                                            uint64_t first)
{
    const float *at = ge_gradients_direct(file, sample, replica, layer);
    const uint64_t bytes = (entries[layer] - first) * sizeof(float);

    if (at != NULL && bytes > 2 * page()) /* less the ends' pages */
        assert_int_equal(marked((const char *)(at + first) + page(),
                                bytes - 2 * page(), hints.forgotten),
                         0);
}

static void what_comes_next_is_read_ahead(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = open_file(temp->path);

    ge_gradients_follow(file, FIRST, HERE);
    for (uint64_t s = 0; s < SAMPLES; s++) {
        walk(file, s, the_next_is_asked);
        ge_gradients_release(file, s);
    }
    ge_gradients_close(&file);
    assert_false(hints.outside);
    forget_hints();
}

/* Ranges are read in the order in which they are asked for: so was all before
 * the last piece of a replica. */
static void ask_for_the_last(ge_gradients *file, uint32_t replica)
{
    const uint64_t first = entries[LAYERS - 1] - PIECE;
    const float *at =
        ge_gradients_direct(file, SAMPLES - 1, replica, LAYERS - 1);

    ge_gradients_use(file, SAMPLES - 1, replica, LAYERS - 1, first, PIECE);
    assert_true(comes_to_be_asked(at + first, PIECE * sizeof(float)));
}

static void no_more_than_the_window_is_asked(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = open_file(temp->path);
    size_t asked = 0, others = 0;

    ge_gradients_follow(file, FIRST, HERE);
    for (uint32_t r = FIRST; r < FIRST + HERE; r++) {
        ge_gradients_use(file, 0, r, 0, 0, PIECE);
        the_next_is_asked(file, 0, r, 0, 0);
    }
    ask_for_the_last(file, FIRST);
    for (uint64_t s = 0; s < SAMPLES; s++)
        for (size_t layer = 0; layer < LAYERS; layer++) {
            const char *at =
                (const char *)ge_gradients_direct(file, s, 0, layer);
            const size_t bytes = entries[layer] * sizeof(float);

            if (at == NULL)
                continue;
            asked += marked(at, REPLICAS * bytes, hints.asked) * page();
            if (bytes > 2 * page()) /* a page may hold two replicas' */
                others += marked(at + page(), bytes - 2 * page(), hints.asked);
        }
    assert_in_range(asked, HERE * SURELY, WINDOW_MOST);
    assert_int_equal(others, 0);
    ge_gradients_close(&file);
    forget_hints();
}

static void what_was_used_is_let_go(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = open_file(temp->path);

    ge_gradients_follow(file, FIRST, HERE);
    for (uint64_t s = 0; s < SAMPLES; s++) {
        walk(file, s, no_more_than_was_used_is_let_go);
        /* The first of two large layers, before the sample is released. */
        for (uint32_t r = FIRST; r < FIRST + HERE; r++) {
            const float *at = ge_gradients_direct(file, s, r, 0);
            const size_t bytes = entries[0] * sizeof(float);

            assert_int_equal(marked(at, bytes, hints.forgotten),
                             pages(at, bytes));
        }
        ge_gradients_release(file, s);
    }
    assert_false(hints.outside);
    ge_gradients_close(&file);
    forget_hints();
}

static void a_layer_is_read_ahead_again_to_its_end(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = open_file(temp->path);
    const float *at = NULL, *next = NULL, *other = NULL;
    const size_t bytes = entries[0] * sizeof(float);

    ge_gradients_follow(file, FIRST, HERE);
    for (uint32_t r = FIRST; r < FIRST + HERE; r++)
        ask_for_the_last(file, r);
    clear(hints.asked);
    at = ge_gradients_direct(file, SAMPLES - 1, FIRST, 0);
    next = ge_gradients_direct(file, SAMPLES - 1, FIRST, 1);
    other = ge_gradients_direct(file, SAMPLES - 1, FIRST + 1, 0);
    ge_gradients_use(file, SAMPLES - 1, FIRST, 0, 0, PIECE);
    ge_gradients_use(file, SAMPLES - 1, FIRST + 1, 0, 0, PIECE);
    assert_true(comes_to_be_asked(at, bytes));
    assert_true(comes_to_be_asked(other, bytes));
    assert_int_equal(marked(next, entries[1] * sizeof(float), hints.asked), 0);
    ge_gradients_close(&file);
    forget_hints();
}

static void without_hints_all_goes_on(void **state)
{
    const struct temp *temp = *state;
    ge_gradients *file = NULL;

    hints.fails = true;
    file = open_file(temp->path);
    ge_gradients_follow(file, FIRST, HERE);
    for (uint64_t s = 0; s < SAMPLES; s++) {
        walk(file, s, the_next_is_asked);
        ge_gradients_release(file, s);
    }
    assert_true(ge_gradients_intact(file));
    /* Those of others, of none, and of a file that nobody follows. */
    ge_gradients_use(file, 0, 0, 0, 0, PIECE);
    ge_gradients_use(file, SAMPLES, FIRST, 0, 0, PIECE);
    ge_gradients_follow(file, REPLICAS, 0);
    ge_gradients_use(file, 0, FIRST, 0, 0, PIECE);
    ge_gradients_release(file, 0);
    ge_gradients_follow(file, FIRST, REPLICAS);
    ge_gradients_use(file, 0, FIRST, 0, 0, PIECE);
    assert_false(hints.outside);
    ge_gradients_close(&file);
    forget_hints();
}

static int setup(void **state)
{
    forget_hints(); /* of a test that failed */
    return temp_setup(state);
}

int main(void)
{
#define TEMP_TEST(f) cmocka_unit_test_setup_teardown(f, setup, temp_teardown)
    const struct CMUnitTest tests[] = {
        TEMP_TEST(what_comes_next_is_read_ahead),
        TEMP_TEST(no_more_than_the_window_is_asked),
        TEMP_TEST(what_was_used_is_let_go),
        TEMP_TEST(a_layer_is_read_ahead_again_to_its_end),
        TEMP_TEST(without_hints_all_goes_on),
    };

    return cmocka_run_group_tests_name("gradients, ahead", tests, NULL, NULL);
}
