/*
 * file_fault.so - LD_PRELOAD: what a disk, an administrator or the kernel may
 * do to a process that writes a file, at a moment of the test's choice.
 *
 *   FILE_FAULT_KILL=N    SIGKILL in place of the Nth write, counted over
 *                        pwrite() and ftruncate()
 *   FILE_FAULT_TORN=1    and of a pwrite() that crosses a page the part before:
 *                        between two pages the kernel looks for signals
 *   FILE_FAULT_ERROR=E   while the file FILE_FAULT_WHILE exists, writes fail
 *                        with error number E
 *   FILE_FAULT_COUNT=F   at exit, the number of writes into the file F
 */
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

enum { PAGE = 4096 };

static long writes;

static long number(const char *name)
{
    const char *text = getenv(name);

    return text != NULL ? strtol(text, NULL, 10) : 0;
}

/* 0, or the error number to fail with; does not return if this is the end. */
static int fault(int fd, const void *bytes, size_t count, off_t at)
{
    const char *stop = getenv("FILE_FAULT_WHILE");

    if (++writes == number("FILE_FAULT_KILL")) {
        const size_t room = (size_t)(PAGE - at % PAGE);
        ssize_t (*real)(int, const void *, size_t, off_t) = NULL;

        *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
        if (bytes != NULL && count > room && number("FILE_FAULT_TORN") != 0)
            (void)!real(fd, bytes, room, at);
        kill(getpid(), SIGKILL);
        pause();
    }
    return stop != NULL && access(stop, F_OK) == 0
               ? (int)number("FILE_FAULT_ERROR")
               : 0;
}

static int refuse(int error)
{
    errno = error;
    return -1;
}

__attribute__((visibility("default"))) ssize_t pwrite(int fd, const void *bytes,
                                                      size_t count, off_t at)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = NULL;
    const int error = fault(fd, bytes, count, at);

    *(void **)&real = dlsym(RTLD_NEXT, "pwrite");
    return error != 0 ? refuse(error) : real(fd, bytes, count, at);
}

__attribute__((visibility("default"))) int ftruncate(int fd, off_t length)
{
    int (*real)(int, off_t) = NULL;
    const int error = fault(fd, NULL, 0, 0);

    *(void **)&real = dlsym(RTLD_NEXT, "ftruncate");
    return error != 0 ? refuse(error) : real(fd, length);
}

__attribute__((destructor)) static void count(void)
{
    const char *path = getenv("FILE_FAULT_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;

    if (file != NULL) {
        fprintf(file, "%ld\n", writes);
        fclose(file);
    }
}
