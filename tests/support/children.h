/*
 * children.h - helper processes of a test, in step with it by pipes.
 */
#ifndef GRADECHO_TESTS_CHILDREN_H
#define GRADECHO_TESTS_CHILDREN_H

#include "segments.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

/* A child and a pipe each way; one byte is one signal. */
struct child {
    pid_t pid;
    int to, from;
};

static inline bool say(int fd)
{
    return write(fd, "!", 1) == 1;
}

static inline bool hear(int fd)
{
    char byte;

    return read(fd, &byte, 1) == 1;
}

/* Run `body` in a child; its result is the exit code. It must not use cmocka's
 * assertions, which would return into the parent's tests. */
static inline struct child start(int (*body)(int in, int out))
{
    int down[2], up[2];
    struct child child;

    assert_int_equal(pipe(down), 0);
    assert_int_equal(pipe(up), 0);
    child.pid = fork();
    assert_true(child.pid >= 0);
    if (child.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(down[1]);
        close(up[0]);
        _exit(body(down[0], up[1]));
    }
    close(down[0]);
    close(up[1]);
    child.to = down[1];
    child.from = up[0];
    return child;
}

/* Wait for the end: the exit code, or 128 + signal. */
static inline int finish(struct child child)
{
    int state = 0;

    assert_int_equal(waitpid(child.pid, &state, 0), child.pid);
    close(child.to);
    close(child.from);
    return WIFSIGNALED(state) ? 128 + WTERMSIG(state) : WEXITSTATUS(state);
}

static inline void slay(struct child child)
{
    assert_int_equal(kill(child.pid, SIGKILL), 0);
    assert_int_equal(finish(child), 128 + SIGKILL);
}

#endif
