/* The handoff between processes: death, inheritance, shortage of memory. */
#include "children.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

enum { SKIPPED = 77 };

static int trainer_that_hands_over_once(int in, int out)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = NULL;

    if (gradecho_open(&options, &trainer) != GRADECHO_OK || !say(out) ||
        !hear(in) || !hand_over(trainer, 8, 2) || !say(out))
        return 1;
    hear(in); /* to be killed here */
    return 2;
}

static void the_leftover_of_a_killed_trainer_is_replaced(void **state)
{
    struct child child = start(trainer_that_hands_over_once);
    struct ge_segment_info info;
    gradecho *trainer = NULL;
    size_t count = 77;

    (void)state;
    assert_true(hear(child.from));
    assert_int_equal(ge_consumer_scan(session(), false, &info, 1, &count),
                     GRADECHO_OK);
    assert_int_equal(count, 1);
    slay(child);
    assert_true(name_exists(0));
    assert_int_equal(ge_consumer_scan(session(), false, &info, 1, &count),
                     GRADECHO_OK);
    assert_int_equal(count, 0);
    trainer = open_trainer();
    assert_int_equal(ge_consumer_scan(session(), false, &info, 1, &count),
                     GRADECHO_OK);
    assert_int_equal(count, 1);
    gradecho_close(&trainer);
    assert_false(name_exists(0));
}

static void what_a_killed_trainer_published_is_read_to_the_end(void **state)
{
    struct child child = start(trainer_that_hands_over_once);
    struct ge_handed_sample sample;
    ge_consumer *monitor = NULL;

    (void)state;
    assert_true(hear(child.from));
    monitor = attach_monitor(1);
    assert_true(say(child.to) && hear(child.from));
    slay(child);
    assert_false(ge_consumer_alive(monitor));
    assert_false(ge_consumer_closed(monitor));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 8);
    assert_int_equal(sample.replicas, 2);
    assert_true(is_whole(monitor, &sample));
    ge_consumer_release(monitor);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
    ge_consumer_detach(&monitor);
    unlink(path_of(0));
}

static int monitor_that_listens(int in, int out)
{
    ge_consumer *monitor = NULL;

    if (ge_consumer_attach(session(), 0, &monitor) != GRADECHO_OK)
        return 1;
    ge_consumer_enable(monitor, 1);
    if (!say(out))
        return 2;
    hear(in); /* to be killed here */
    return 3;
}

static void nothing_is_wanted_after_the_monitor_was_killed(void **state)
{
    gradecho *trainer = open_trainer();
    struct child child = start(monitor_that_listens);
    struct ge_handed_sample sample;
    ge_consumer *monitor = NULL;

    (void)state;
    assert_true(hear(child.from));
    assert_int_equal(gradecho_attached(trainer), 1);
    assert_true(hand_over(trainer, 0, 1) && hand_over(trainer, 1, 1));
    assert_int_equal(gradecho_begin(trainer, 2), GRADECHO_DROPPED);
    slay(child);
    assert_int_equal(gradecho_attached(trainer), 0);
    assert_int_equal(gradecho_begin(trainer, 3), GRADECHO_NOT_WANTED);
    /* The next one does not inherit the wishes of the dead. */
    assert_int_equal(ge_consumer_attach(session(), 0, &monitor), GRADECHO_OK);
    assert_int_equal(gradecho_begin(trainer, 3), GRADECHO_NOT_WANTED);
    assert_int_equal(gradecho_dropped(trainer), 1);
    ge_consumer_enable(monitor, 1);
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_AGAIN);
    assert_true(hand_over(trainer, 4, 1));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_int_equal(sample.step, 4);
    ge_consumer_detach(&monitor);
    gradecho_close(&trainer);
}

static gradecho *inherited;

static int child_that_closes_its_copy(int in, int out)
{
    gradecho_close(&inherited);
    return say(out) && hear(in) ? 0 : 1;
}

static void a_forked_child_cannot_close_the_parents_segment(void **state)
{
    ge_consumer *monitor = NULL;
    struct ge_handed_sample sample;
    struct child child;

    (void)state;
    inherited = open_trainer();
    monitor = attach_monitor(1);
    child = start(child_that_closes_its_copy);
    assert_true(hear(child.from));
    assert_true(name_exists(0));
    assert_true(ge_consumer_alive(monitor));
    assert_true(hand_over(inherited, 0, 1));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_OK);
    assert_true(say(child.to));
    assert_int_equal(finish(child), 0);
    ge_consumer_detach(&monitor);
    gradecho_close(&inherited);
    assert_false(name_exists(0));
}

static int child_that_keeps_its_copy(int in, int out)
{
    (void)out;
    hear(in);
    gradecho_close(&inherited);
    return 0;
}

static void a_closed_segment_is_not_kept_alive_by_children(void **state)
{
    ge_consumer *monitor = NULL;
    struct ge_handed_sample sample;
    struct child child;

    (void)state;
    inherited = open_trainer();
    monitor = attach_monitor(1);
    child = start(child_that_keeps_its_copy);
    gradecho_close(&inherited);
    assert_false(name_exists(0));
    assert_int_equal(ge_consumer_peek(monitor, &sample), GRADECHO_END);
    ge_consumer_detach(&monitor);
    inherited = open_trainer();
    gradecho_close(&inherited);
    assert_true(say(child.to));
    assert_int_equal(finish(child), 0);
}

static bool write_file(const char *path, const char *text)
{
    const int fd = open(path, O_WRONLY);
    const bool done = fd >= 0 && write(fd, text, strlen(text)) > 0;

    if (fd >= 0)
        close(fd);
    return done;
}

/* A user namespace in which we may mount, and are who we were. */
static bool enter_user_namespace(void)
{
    const unsigned uid = geteuid(), gid = getegid();
    char users[64], groups[64];

    snprintf(users, sizeof users, "%u %u 1", uid, uid);
    snprintf(groups, sizeof groups, "%u %u 1", gid, gid);
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
           write_file("/proc/self/uid_map", users) &&
           write_file("/proc/self/setgroups", "deny") &&
           write_file("/proc/self/gid_map", groups);
}

/* A /dev/shm of `size` that only this process sees; false if the kernel does
 * not allow it. */
static bool enter_small_shm(const char *size)
{
    char options[64];

    snprintf(options, sizeof options, "mode=1777,size=%s", size);
    return (unshare(CLONE_NEWNS) == 0 || enter_user_namespace()) &&
           mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", "/dev/shm", "tmpfs", 0, options) == 0;
}

static unsigned long long free_blocks(void)
{
    struct statvfs folder;

    return statvfs("/dev/shm", &folder) == 0 ? folder.f_bfree : 0;
}

static struct gradecho_options megabytes(uint64_t count)
{
    static struct gradecho_layer large = {"large", 0, 131072, GRADECHO_F32};
    struct gradecho_options options = some_options();

    large.rows = count; /* one replica, two slots, half a megabyte a row */
    options.replicas = 1;
    options.layers = &large;
    options.layer_count = 1;
    return options;
}

static int trainer_in_a_full_shm(int in, int out)
{
    struct gradecho_options options = megabytes(9);
    gradecho *trainer = NULL;
    unsigned long long before = 0;

    (void)in, (void)out;
    if (!enter_small_shm("8m"))
        return SKIPPED;
    before = free_blocks();
    if (gradecho_open(&options, &trainer) != GRADECHO_E_NOSPACE)
        return 1;
    if (strstr(gradecho_message(), "9.4 MB") == NULL ||
        strstr(gradecho_message(), "8.4 MB") == NULL ||
        strstr(gradecho_message(), "--shm-size") == NULL)
        return 2;
    if (trainer != NULL || name_exists(0) || free_blocks() != before)
        return 3;
    options = megabytes(7);
    if (gradecho_open(&options, &trainer) != GRADECHO_OK)
        return 4;
    gradecho_close(&trainer);
    return free_blocks() == before ? 0 : 5;
}

static void a_full_shm_is_an_error_that_says_what_to_do(void **state)
{
    const int code = finish(start(trainer_in_a_full_shm));

    (void)state;
    if (code == SKIPPED)
        skip();
    assert_int_equal(code, 0);
}

static int trainer_larger_than_memory(int in, int out)
{
    struct gradecho_options options = megabytes(8u << 20); /* 8 TB */
    gradecho *trainer = NULL;

    (void)in, (void)out;
    if (!enter_small_shm("1024t"))
        return SKIPPED;
    /* Were it tried, this process would not live to tell. */
    if (gradecho_open(&options, &trainer) != GRADECHO_E_NOMEM)
        return 1;
    if (strstr(gradecho_message(), "MB of memory") == NULL)
        return 2;
    return trainer == NULL && !name_exists(0) ? 0 : 3;
}

static void memory_that_is_not_there_is_not_tried(void **state)
{
    const int code = finish(start(trainer_larger_than_memory));

    (void)state;
    if (code == SKIPPED)
        skip();
    assert_int_equal(code, 0);
}

static int successor_in_a_small_shm(int in, int out)
{
    const struct gradecho_options options = megabytes(6);
    gradecho *trainer = NULL;
    pid_t first = -1;
    int state = 0;

    (void)in, (void)out;
    if (!enter_small_shm("8m"))
        return SKIPPED;
    first = fork();
    if (first == 0) {
        if (gradecho_open(&options, &trainer) != GRADECHO_OK)
            _exit(1);
        raise(SIGKILL);
    }
    if (waitpid(first, &state, 0) != first || !WIFSIGNALED(state) ||
        !name_exists(0))
        return 1;
    /* There is no room for both. */
    if (gradecho_open(&options, &trainer) != GRADECHO_OK)
        return 2;
    gradecho_close(&trainer);
    return 0;
}

static void a_leftover_makes_room_for_its_successor(void **state)
{
    const int code = finish(start(successor_in_a_small_shm));

    (void)state;
    if (code == SKIPPED)
        skip();
    assert_int_equal(code, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_leftover_of_a_killed_trainer_is_replaced),
        cmocka_unit_test(what_a_killed_trainer_published_is_read_to_the_end),
        cmocka_unit_test(nothing_is_wanted_after_the_monitor_was_killed),
        cmocka_unit_test(a_forked_child_cannot_close_the_parents_segment),
        cmocka_unit_test(a_closed_segment_is_not_kept_alive_by_children),
        cmocka_unit_test(a_full_shm_is_an_error_that_says_what_to_do),
        cmocka_unit_test(memory_that_is_not_there_is_not_tried),
        cmocka_unit_test(a_leftover_makes_room_for_its_successor),
    };

    (void)session(); /* named after this process, for the children, too */
    return cmocka_run_group_tests_name("handoff processes", tests, NULL, NULL);
}
