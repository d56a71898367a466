/*
 * What a call of the trainer may not do: wait, and allocate.
 *
 * The calls are made in a process that the kernel kills at any system call but
 * the few that cannot wait, and whose malloc() counts.
 */
#include "children.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>

enum { CANNOT_FILTER = 77, FIRST_ARGUMENT = 0, SECOND_ARGUMENT = 1 };

/* ---- allocations are counted ---- */

static unsigned long allocations;

/* Seen by the C library, too. */
#pragma GCC visibility push(default)

/* glibc's own, under the names that it keeps for such a purpose. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    allocations++;
    return __libc_realloc(old, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    allocations++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    allocations++;
    *out = __libc_memalign(alignment, size);
    return *out != NULL ? 0 : ENOMEM;
}

#pragma GCC visibility pop

/* ---- system calls are few ---- */

#define LOAD(field)                    \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
             (uint32_t)offsetof(struct seccomp_data, field))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
/* Allow one system call. */
#define CALL(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), ALLOW
/* Allow one system call with this argument (its lower half) alone. */
#define CALL_WITH(number, argument, value)                                   \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4), LOAD(args[argument]), \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(value), 0, 1), ALLOW, \
        LOAD(nr)

/* From here on only: to wake, to ask for a lock's owner, to look at the clock,
 * to talk to the test through its two pipes, and to end. */
static bool allow_few_calls(int in, int out)
{
    struct sock_filter few[] = {
        LOAD(nr),
        CALL_WITH(SYS_futex, SECOND_ARGUMENT, FUTEX_WAKE),
        CALL_WITH(SYS_fcntl, SECOND_ARGUMENT, F_OFD_GETLK),
        CALL_WITH(SYS_read, FIRST_ARGUMENT, in),
        CALL_WITH(SYS_write, FIRST_ARGUMENT, out),
        CALL(SYS_clock_gettime),
        CALL(SYS_exit_group),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog program = {.len = COUNT_OF(few), .filter = few};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

static int child_that_sleeps(int in, int out)
{
    const struct timespec moment = {.tv_nsec = 1};

    if (!allow_few_calls(in, out))
        return CANNOT_FILTER;
    if (!say(out))
        return 1;
    (void)nanosleep(&moment, NULL);
    return 0;
}

static void the_filter_and_the_count_do_find_what_they_look_for(void **state)
{
    struct child child = start(child_that_sleeps);
    const unsigned long before = allocations;
    char *volatile copy = NULL;
    int code = 0;

    (void)state;
    (void)hear(child.from);
    code = finish(child);
    if (code == CANNOT_FILTER)
        skip();
    assert_int_equal(code, 128 + SIGSYS);
    copy = strdup("counted");
    assert_true(allocations > before);
    free(copy);
}

/* ---- the calls ---- */

static const char *wrong;

static bool expect(bool holds, const char *what)
{
    if (!holds && wrong == NULL)
        wrong = what;
    return holds;
}
#define EXPECT(condition) expect(condition, #condition)

static unsigned char gradient[8 * ENTRIES_MAX];

static gradecho_status write_all(gradecho *trainer)
{
    for (size_t l = 0; l < LAYERS; l++)
        if (gradecho_write(trainer, 0, l, gradient) != GRADECHO_OK)
            return GRADECHO_E_ARG;
    return gradecho_publish(trainer, NULL);
}

static void call_it_wrongly(gradecho *trainer)
{
    const struct gradecho_meta bad = {.gradient_scale = -1};

    EXPECT(gradecho_begin(trainer, -1) == GRADECHO_E_ARG);
    EXPECT(gradecho_write(trainer, 0, 0, gradient) == GRADECHO_E_ARG);
    EXPECT(gradecho_publish(trainer, NULL) == GRADECHO_E_ARG);
    EXPECT(gradecho_begin(trainer, 2) == GRADECHO_OK);
    EXPECT(gradecho_begin(trainer, 2) == GRADECHO_E_ARG);
    EXPECT(gradecho_write(trainer, REPLICAS, 0, gradient) == GRADECHO_E_ARG);
    EXPECT(gradecho_write(trainer, 0, 0, NULL) == GRADECHO_E_ARG);
    EXPECT(gradecho_place(trainer, 0, LAYERS) == NULL);
    EXPECT(gradecho_publish(trainer, &bad) == GRADECHO_E_ARG);
    EXPECT(strlen(gradecho_message()) > 10);
    EXPECT(gradecho_begin(NULL, 2) == GRADECHO_NOT_WANTED);
}

/* With the monitor coming, and going, where the test says so. */
static int trainer_that_may_not_wait(int in, int out)
{
    const struct gradecho_options options = some_options();
    gradecho *trainer = NULL;
    unsigned long before = 0;

    if (gradecho_open(&options, &trainer) != GRADECHO_OK)
        return 1;
    before = allocations;
    if (!allow_few_calls(in, out))
        return CANNOT_FILTER;
    EXPECT(gradecho_begin(trainer, 0) == GRADECHO_NOT_WANTED);
    EXPECT(gradecho_attached(trainer) == 0);
    if (!say(out) || !hear(in))
        return 2;
    EXPECT(gradecho_attached(trainer) == 1);
    EXPECT(gradecho_begin(trainer, 1) == GRADECHO_NOT_WANTED); /* unsampled */
    call_it_wrongly(trainer);
    EXPECT(gradecho_begin(trainer, 2) == GRADECHO_OK);
    EXPECT(gradecho_place(trainer, 0, 0) != NULL);
    gradecho_cancel(trainer);
    EXPECT(gradecho_begin(trainer, 2) == GRADECHO_OK);
    EXPECT(write_all(trainer) == GRADECHO_OK);
    EXPECT(gradecho_begin(trainer, 4) == GRADECHO_OK);
    EXPECT(write_all(trainer) == GRADECHO_OK);
    EXPECT(gradecho_begin(trainer, 6) == GRADECHO_DROPPED); /* slots are full */
    EXPECT(gradecho_dropped(trainer) == 1);
    if (!say(out) || !hear(in))
        return 3;
    EXPECT(gradecho_begin(trainer, 8) == GRADECHO_NOT_WANTED);
    EXPECT(gradecho_attached(trainer) == 0);
    EXPECT(allocations == before);
    if (wrong != NULL)
        (void)!write(out, wrong, strlen(wrong) + 1);
    return wrong == NULL ? 0 : 4;
}

static int monitor_that_listens(int in, int out)
{
    ge_consumer *monitor = NULL;

    if (ge_consumer_attach(session(), 0, &monitor) != GRADECHO_OK)
        return 1;
    ge_consumer_enable(monitor, 2);
    if (!say(out))
        return 2;
    hear(in); /* to be killed here */
    return 3;
}

static void no_call_waits_or_allocates(void **state)
{
    struct child trainer = start(trainer_that_may_not_wait), monitor;
    char said[128] = "";

    (void)state;
    if (!hear(trainer.from)) {
        const int code = finish(trainer);

        unlink(path_of(0));
        if (code == CANNOT_FILTER)
            skip();
        fail_msg("the trainer ended with %d", code);
    }
    monitor = start(monitor_that_listens);
    assert_true(hear(monitor.from));
    assert_true(say(trainer.to) && hear(trainer.from));
    slay(monitor);
    assert_true(say(trainer.to));
    (void)!read(trainer.from, said, sizeof said - 1);
    assert_string_equal(said, "");
    assert_int_equal(finish(trainer), 0);
    unlink(path_of(0)); /* it had no right to */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_filter_and_the_count_do_find_what_they_look_for),
        cmocka_unit_test(no_call_waits_or_allocates),
    };

    (void)session(); /* named after this process, for the children, too */
    return cmocka_run_group_tests_name("never blocks", tests, NULL, NULL);
}
