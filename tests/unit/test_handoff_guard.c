/* A segment that is cut off or overwritten while a monitor is attached: its
 * data are lost, the process lives, and the trainer is left in peace. */
#include "segments.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "abi.h"
#include "guard.h"

/* One write from outside. */
static void overwrite(const void *bytes, size_t count, size_t at)
{
    const int fd = open(path_of(0), O_RDWR);

    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, count, (off_t)at), count);
    close(fd);
}

static unsigned char byte_at(size_t at)
{
    const int fd = open(path_of(0), O_RDONLY);
    unsigned char byte = 0;

    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    close(fd);
    return byte;
}

static uint64_t segment_bytes(void)
{
    const int fd = open(path_of(0), O_RDONLY);
    const off_t end = lseek(fd, 0, SEEK_END);

    assert_true(end > 0);
    close(fd);
    return (uint64_t)end;
}

static size_t slots_offset(void)
{
    const int fd = open(path_of(0), O_RDONLY);
    uint64_t at = 0;

    assert_int_equal(
        pread(fd, &at, sizeof at, offsetof(struct ge_abi_header, slots_offset)),
        sizeof at);
    close(fd);
    return (size_t)at;
}

/* Told once, by an error that names the segment; then nothing more. */
static void is_lost(ge_consumer *monitor)
{
    struct ge_handed_sample sample;

    ge_message_capture(1);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_E_INPUT);
    ge_message_capture(0);
    assert_non_null(strstr(ge_message_last(), path_of(0)));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
    assert_false(ge_consumer_alive(monitor));
    assert_false(ge_consumer_closed(monitor));
    assert_false(ge_consumer_intact(monitor));
    assert_null(ge_consumer_data(monitor, 0, 0));
    ge_consumer_release(monitor);
    ge_consumer_enable(monitor, 1);
    ge_consumer_wait(monitor, 100.0);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
}

static void pages_that_are_gone_are_zeros_and_the_sample_is_not_believed(
    void **state)
{
    static const unsigned char zeros[8 * ENTRIES_MAX];
    gradecho *trainer = open_trainer();
    ge_consumer *monitor = attach_monitor(1);
    struct ge_handed_sample sample;
    const uint64_t bytes = segment_bytes();

    (void)state;
    assert_true(hand_over(trainer, 0, REPLICAS));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_true(ge_consumer_intact(monitor));
    assert_true(is_whole(monitor, &sample));
    assert_int_equal(truncate(path_of(0), 0), 0);
    for (size_t l = 0; l < LAYERS; l++)
        assert_memory_equal(ge_consumer_data(monitor, 0, l), zeros,
                            bytes_of(l));
    /* Grown again, it still is not what it was. */
    assert_int_equal(truncate(path_of(0), (off_t)bytes), 0);
    assert_false(ge_consumer_intact(monitor));
    is_lost(monitor);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static void a_mapping_that_is_not_cut_off_is_untouched(void **state)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    int files[2];
    unsigned char *at[2];
    int guards[2];

    (void)state;
    for (int i = 0; i < 2; i++) {
        files[i] = memfd_create("guarded", MFD_CLOEXEC);
        assert_int_equal(ftruncate(files[i], (off_t)(2 * page)), 0);
        at[i] = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_SHARED,
                     files[i], 0);
        assert_true(at[i] != MAP_FAILED);
        memset(at[i], 7, 2 * page);
        guards[i] = ge_guard_add(at[i], 2 * page);
        assert_true(guards[i] >= 0);
    }
    assert_int_equal(ftruncate(files[1], (off_t)page), 0);
    assert_int_equal(at[1][0], 7); /* that page is still there */
    assert_false(ge_guard_broken(guards[1]));
    assert_int_equal(at[1][page], 0);
    assert_true(ge_guard_broken(guards[1]));
    assert_int_equal(at[1][0], 0);
    at[1][0] = 1; /* as the consumer writes its line */
    assert_false(ge_guard_broken(guards[0]));
    assert_int_equal(at[0][page], 7);
    for (int i = 0; i < 2; i++) {
        ge_guard_remove(guards[i]);
        munmap(at[i], 2 * page);
        close(files[i]);
    }
    ge_guard_remove(-1);
    assert_false(ge_guard_broken(-1));
}

/* ---- faults that are not the segment's ---- */

static void leave(int number)
{
    (void)number;
    _exit(42);
}

static void leave_info(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    _exit(info->si_addr != NULL ? 43 : 44);
}

enum who { NOBODY, IGNORED, PLAIN, WITH_INFO };

/* Wait status of a child that has a guard, and that before had `who` for
 * SIGBUS, after a fault or a kill. */
static int end_of_child(enum who who, bool sent)
{
    const pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (child == 0) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        const int file = memfd_create("other", MFD_CLOEXEC);
        struct sigaction action = {.sa_handler = who == PLAIN     ? leave
                                                 : who == IGNORED ? SIG_IGN
                                                                  : SIG_DFL};
        volatile const unsigned char *other =
            mmap(NULL, page, PROT_READ, MAP_SHARED, file, 0);

        if (who == WITH_INFO) {
            action.sa_sigaction = leave_info;
            action.sa_flags = SA_SIGINFO;
        }
        sigaction(SIGBUS, &action, NULL);
        if (ge_guard_add(mmap(NULL, page, PROT_READ, MAP_SHARED, file, 0),
                         page) < 0)
            _exit(1);
        if (sent)
            (void)raise(SIGBUS);
        else if (*other == 0) /* the file is empty */
            _exit(2);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void a_fault_from_elsewhere_goes_where_it_went_before(void **state)
{
    (void)state;
    for (int sent = 0; sent < 2; sent++) {
        int status = end_of_child(NOBODY, sent);

        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
        status = end_of_child(PLAIN, sent);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 42);
        status = end_of_child(WITH_INFO, sent);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 43);
        status = end_of_child(IGNORED, sent);
        if (sent) /* a fault cannot be ignored */
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        else
            assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
    }
}

/* ---- other bytes ---- */

static void overwritten_counters_and_constants_are_noticed(void **state)
{
    const uint64_t one = 1, much = UINT64_C(1) << 60;
    const struct {
        size_t at, bytes;
        const void *value;
    } damages[] = {
        {offsetof(struct ge_abi_header, instance), 8, &one},
        {offsetof(struct ge_abi_header, layer_count), 4, &one},
        {offsetof(struct ge_abi_header, head), 8, &much},
        {offsetof(struct ge_abi_header, dropped), 8, &much},
        {offsetof(struct ge_abi_header, closed), 4, &one},
        {offsetof(struct ge_abi_header, tail), 8, &much},
        {offsetof(struct ge_abi_header, sample_every), 8, &much},
        {offsetof(struct ge_abi_header, sample_from), 8, &much},
        {offsetof(struct ge_abi_header, attached), 4, &much},
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(damages); i++) {
        gradecho *trainer = open_trainer();
        ge_consumer *monitor = attach_monitor(1);
        struct ge_handed_sample sample;

        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
        overwrite(damages[i].value, damages[i].bytes, damages[i].at);
        is_lost(monitor);
        assert_true(ge_consumer_dropped(monitor) < 1000);
        /* Nobody asks it for copies that nobody reads. */
        assert_int_equal(gradecho_begin(trainer, 0), GRADECHO_NOT_WANTED);
        ge_consumer_detach(&monitor);
        gradecho_close(&trainer);
    }
}

/* Were such a step believed, all ranks would discard what comes before it. */
static void no_part_of_a_samples_header_can_be_overwritten(void **state)
{
    (void)state;
    for (size_t at = 0; at < sizeof(struct ge_abi_slot); at++) {
        gradecho *trainer = open_trainer();
        ge_consumer *monitor = attach_monitor(1);
        struct ge_handed_sample sample;
        unsigned char byte = 0;

        assert_true(hand_over(trainer, 0, 1));
        byte = byte_at(slots_offset() + at) ^ 0xa5;
        overwrite(&byte, 1, slots_offset() + at);
        ge_message_capture(1);
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_E_INPUT);
        ge_message_capture(0);
        ge_consumer_detach(&monitor);
        gradecho_close(&trainer);
    }
}

static void a_sample_that_changes_while_it_is_read_is_not_believed(void **state)
{
    const unsigned char other = 0xa5;
    const size_t places[] = {0, sizeof(struct ge_abi_slot)}; /* presence */

    (void)state;
    for (size_t i = 0; i < COUNT_OF(places); i++) {
        gradecho *trainer = open_trainer();
        ge_consumer *monitor = attach_monitor(1);
        struct ge_handed_sample sample;

        assert_true(hand_over(trainer, 0, 1));
        assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
        assert_true(ge_consumer_intact(monitor));
        overwrite(&other, 1, slots_offset() + places[i]);
        assert_false(ge_consumer_intact(monitor));
        is_lost(monitor);
        ge_consumer_detach(&monitor);
        gradecho_close(&trainer);
    }
}

/* The trainer would find its ring full, hand nothing over, and so never correct
 * it: all ranks would wait for ever. */
static void a_head_that_is_wrong_from_the_start_is_noticed(void **state)
{
    static const uint64_t heads[] = {1, 2, 3, UINT64_MAX};

    (void)state;
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        gradecho *trainer = open_trainer();
        ge_consumer *monitor = NULL;

        overwrite(&heads[i], 8, offsetof(struct ge_abi_header, head));
        monitor = attach_monitor(1);
        is_lost(monitor);
        ge_consumer_detach(&monitor);
        gradecho_close(&trainer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            pages_that_are_gone_are_zeros_and_the_sample_is_not_believed),
        cmocka_unit_test(a_mapping_that_is_not_cut_off_is_untouched),
        cmocka_unit_test(a_fault_from_elsewhere_goes_where_it_went_before),
        cmocka_unit_test(overwritten_counters_and_constants_are_noticed),
        cmocka_unit_test(no_part_of_a_samples_header_can_be_overwritten),
        cmocka_unit_test(
            a_sample_that_changes_while_it_is_read_is_not_believed),
        cmocka_unit_test(a_head_that_is_wrong_from_the_start_is_noticed),
    };

    return cmocka_run_group_tests_name("handoff guard", tests, NULL, NULL);
}
