/*
 * More of the kernel's calls: descriptors of folders, locks, pipes, processes.
 */
#include "inject_private.h"

#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define SYSTEM(...) FAULT_CALL(FAULT_SYSTEM, __VA_ARGS__)

FAULT_EXPORT int openat(int folder, const char *path, int flags, ...)
{
    static int (*real)(int, const char *, int, ...);
    mode_t mode = 0;
    va_list arguments;
    int fd = -1;

    va_start(arguments, flags);
    mode = fault_mode(flags, arguments);
    va_end(arguments);
    fault_resolve(&real, "openat");
    if (fault_due(FAULT_SYSTEM, "openat", FAULT_CALLER)) {
        errno = EMFILE;
        return -1;
    }
    fd = real(folder, path, flags, mode);
    if (fd >= 0)
        fault_hold(FAULT_SYSTEM, FAULT_FILE, (uintptr_t)fd, "openat",
                   FAULT_CALLER);
    return fd;
}

SYSTEM(int, access, (const char *path, int how), (path, how), -1, EIO)
SYSTEM(int, unlinkat, (int folder, const char *path, int flags),
       (folder, path, flags), -1, EIO)
SYSTEM(ssize_t, readlink, (const char *path, char *to, size_t bytes),
       (path, to, bytes), -1, EIO)
SYSTEM(int, statfs, (const char *path, struct statfs *about), (path, about), -1,
       EIO)
SYSTEM(int, statvfs, (const char *path, struct statvfs *about), (path, about),
       -1, EIO)
SYSTEM(int, flock, (int fd, int operation), (fd, operation), -1, ENOLCK)
SYSTEM(int, dup2, (int fd, int to), (fd, to), -1, EMFILE)
SYSTEM(int, dup3, (int fd, int to, int flags), (fd, to, flags), -1, EMFILE)
SYSTEM(int, pipe, (int ends[2]), (ends), -1, EMFILE)
SYSTEM(int, pipe2, (int ends[2], int flags), (ends, flags), -1, EMFILE)
SYSTEM(ssize_t, read, (int fd, void *to, size_t bytes), (fd, to, bytes), -1,
       EIO)
SYSTEM(ssize_t, write, (int fd, const void *from, size_t bytes),
       (fd, from, bytes), -1, EIO)
SYSTEM(char *, fgets, (char *to, int bytes, FILE *stream), (to, bytes, stream),
       NULL, EIO)
SYSTEM(pid_t, fork, (void), (), -1, EAGAIN)
SYSTEM(pid_t, waitpid, (pid_t pid, int *state, int flags), (pid, state, flags),
       -1, ECHILD)
SYSTEM(int, setpgid, (pid_t pid, pid_t group), (pid, group), -1, EPERM)
SYSTEM(int, setenv, (const char *name, const char *value, int replace),
       (name, value, replace), -1, ENOMEM)
SYSTEM(int, sched_getaffinity, (pid_t pid, size_t bytes, cpu_set_t *to),
       (pid, bytes, to), -1, EINVAL)
