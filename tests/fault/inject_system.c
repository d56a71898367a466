/*
 * The kernel's and the C library's calls, and LAPACK's one.
 */
#include "inject_private.h"

#include <argp.h>
#include <dirent.h>
#include <fcntl.h>
#include <langinfo.h>
#include <lapacke.h>
#include <locale.h>
#include <pthread.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define SYSTEM(...) FAULT_CALL(FAULT_SYSTEM, __VA_ARGS__)

/* ---- files ---- */

FAULT_EXPORT int open(const char *path, int flags, ...)
{
    static int (*real)(const char *, int, ...);
    mode_t mode = 0;
    va_list arguments;
    int fd = -1;

    va_start(arguments, flags);
    mode = fault_mode(flags, arguments);
    va_end(arguments);
    fault_resolve(&real, "open");
    if (fault_due(FAULT_SYSTEM, "open", FAULT_CALLER)) {
        errno = EMFILE;
        return -1;
    }
    fd = real(path, flags, mode);
    if (fd >= 0)
        fault_hold(FAULT_SYSTEM, FAULT_FILE, (uintptr_t)fd, "open",
                   FAULT_CALLER);
    return fd;
}

FAULT_EXPORT int fcntl(int fd, int command, ...)
{
    static int (*real)(int, int, ...);
    va_list arguments;
    void *argument = NULL;

    va_start(arguments, command);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    fault_resolve(&real, "fcntl");
    if (fault_due(FAULT_SYSTEM, "fcntl", FAULT_CALLER)) {
        errno = ENOLCK;
        return -1;
    }
    return real(fd, command, argument);
}

FAULT_ACQUIRE(FAULT_SYSTEM, FAULT_FILE, int, memfd_create,
              (const char *name, unsigned flags), (name, flags), -1, ENOSYS,
              made >= 0)
FAULT_RELEASE(FAULT_SYSTEM, FAULT_FILE, int, close, (int fd), (fd), fd, -1, EIO)
SYSTEM(int, fstat, (int fd, struct stat *about), (fd, about), -1, EIO)
SYSTEM(int, lstat, (const char *path, struct stat *about), (path, about), -1,
       EIO)
SYSTEM(int, stat, (const char *path, struct stat *about), (path, about), -1,
       EIO)
SYSTEM(int, fstatvfs, (int fd, struct statvfs *about), (fd, about), -1, EIO)
SYSTEM(int, ftruncate, (int fd, off_t length), (fd, length), -1, EIO)
SYSTEM(ssize_t, pread, (int fd, void *to, size_t bytes, off_t at),
       (fd, to, bytes, at), -1, EIO)
SYSTEM(int, linkat,
       (int from_folder, const char *from, int to_folder, const char *to,
        int flags),
       (from_folder, from, to_folder, to, flags), -1, ENOSPC)
SYSTEM(int, unlink, (const char *path), (path), -1, EIO)
SYSTEM(int, rename, (const char *from, const char *to), (from, to), -1, EIO)
SYSTEM(int, renameat2,
       (int from_folder, const char *from, int to_folder, const char *to,
        unsigned flags),
       (from_folder, from, to_folder, to, flags), -1, EIO)
/* The error is the result. */
SYSTEM(int, posix_fallocate, (int fd, off_t at, off_t length), (fd, at, length),
       ENOSPC, errno)

/* ---- memory of files ---- */

FAULT_ACQUIRE(FAULT_SYSTEM, FAULT_MAPPING, void *, mmap,
              (void *near, size_t bytes, int access, int flags, int fd,
               off_t at),
              (near, bytes, access, flags, fd, at), MAP_FAILED, ENOMEM,
              made != MAP_FAILED)
FAULT_RELEASE(FAULT_SYSTEM, FAULT_MAPPING, int, munmap,
              (void *base, size_t bytes), (base, bytes), base, -1, EINVAL)
SYSTEM(int, mprotect, (void *base, size_t bytes, int access),
       (base, bytes, access), -1, ENOMEM)
SYSTEM(int, madvise, (void *base, size_t bytes, int advice),
       (base, bytes, advice), -1, EINVAL)
SYSTEM(int, pthread_create,
       (pthread_t * thread, const pthread_attr_t *attributes,
        void *(*work)(void *), void *context),
       (thread, attributes, work, context), EAGAIN, EAGAIN)

/* ---- folders ---- */

FAULT_ACQUIRE(FAULT_SYSTEM, FAULT_FOLDER, DIR *, opendir, (const char *path),
              (path), NULL, EMFILE, made != NULL)
FAULT_RELEASE(FAULT_SYSTEM, FAULT_FOLDER, int, closedir, (DIR * folder),
              (folder), folder, -1, EIO)
SYSTEM(struct dirent *, readdir, (DIR * folder), (folder), NULL, EIO)

/* ---- streams ---- */

/* The one memory stream that is open: its text is ours once it is closed. */
static struct {
    FILE *stream;
    char **text;
    const void *caller;
} memory_stream;

FAULT_EXPORT FILE *open_memstream(char **text, size_t *size)
{
    static FILE *(*real)(char **, size_t *);
    FILE *stream = NULL;

    fault_resolve(&real, "open_memstream");
    if (fault_due(FAULT_SYSTEM, "open_memstream", FAULT_CALLER)) {
        errno = ENOMEM;
        return NULL;
    }
    stream = real(text, size);
    if (stream != NULL) {
        fault_hold(FAULT_SYSTEM, FAULT_STREAM, (uintptr_t)stream,
                   "open_memstream", FAULT_CALLER);
        memory_stream.stream = stream;
        memory_stream.text = text;
        memory_stream.caller = FAULT_CALLER;
    }
    return stream;
}

FAULT_EXPORT int fclose(FILE *stream)
{
    static int (*real)(FILE *);
    int done = 0;

    fault_resolve(&real, "fclose");
    fault_drop(FAULT_STREAM, (uintptr_t)stream);
    done = real(stream);
    if (stream == memory_stream.stream) {
        fault_hold(FAULT_SYSTEM, FAULT_BLOCK, (uintptr_t)*memory_stream.text,
                   "open_memstream", memory_stream.caller);
        memory_stream.stream = NULL;
    }
    if (fault_due(FAULT_SYSTEM, "fclose", FAULT_CALLER)) {
        errno = EIO;
        return EOF;
    }
    return done;
}

FAULT_ACQUIRE(FAULT_SYSTEM, FAULT_STREAM, FILE *, fopen,
              (const char *path, const char *mode), (path, mode), NULL, EMFILE,
              made != NULL)
FAULT_ACQUIRE(FAULT_SYSTEM, FAULT_STREAM, FILE *, fmemopen,
              (void *memory, size_t size, const char *mode),
              (memory, size, mode), NULL, ENOMEM, made != NULL)
SYSTEM(int, fflush, (FILE * stream), (stream), EOF, EIO)

/* A stream whose last fread() failed by our doing. */
static FILE *failed_stream;

FAULT_EXPORT size_t fread(void *to, size_t size, size_t count, FILE *stream)
{
    static size_t (*real)(void *, size_t, size_t, FILE *);

    fault_resolve(&real, "fread");
    failed_stream = NULL;
    if (fault_due(FAULT_SYSTEM, "fread", FAULT_CALLER)) {
        failed_stream = stream;
        errno = EIO;
        return 0;
    }
    return real(to, size, count, stream);
}

FAULT_EXPORT int ferror(FILE *stream)
{
    static int (*real)(FILE *);

    fault_resolve(&real, "ferror");
    return real(stream) != 0 || stream == failed_stream;
}

/* ---- programs: the error is the result ---- */

SYSTEM(int, posix_spawn,
       (pid_t * pid, const char *path, const posix_spawn_file_actions_t *files,
        const posix_spawnattr_t *attributes, char *const argv[],
        char *const environment[]),
       (pid, path, files, attributes, argv, environment), EAGAIN, errno)
SYSTEM(int, posix_spawn_file_actions_init, (posix_spawn_file_actions_t * files),
       (files), ENOMEM, errno)
SYSTEM(int, posix_spawn_file_actions_addopen,
       (posix_spawn_file_actions_t * files, int fd, const char *path, int flags,
        mode_t mode),
       (files, fd, path, flags, mode), ENOMEM, errno)
SYSTEM(int, posix_spawn_file_actions_adddup2,
       (posix_spawn_file_actions_t * files, int from, int to),
       (files, from, to), ENOMEM, errno)
SYSTEM(int, posix_spawn_file_actions_addclosefrom_np,
       (posix_spawn_file_actions_t * files, int first), (files, first), ENOMEM,
       errno)
SYSTEM(int, posix_spawnattr_init, (posix_spawnattr_t * attributes),
       (attributes), ENOMEM, errno)

/* ---- what else can say no ---- */

/* <sys/resource.h> declares an enum for it, or an int: as the macro says. */
SYSTEM(int, getrlimit, (__rlimit_resource_t what, struct rlimit *limit),
       (what, limit), -1, EINVAL)
SYSTEM(ssize_t, getrandom, (void *to, size_t bytes, unsigned flags),
       (to, bytes, flags), -1, EAGAIN)
SYSTEM(struct tm *, gmtime_r, (const time_t *time, struct tm *to), (time, to),
       NULL, EOVERFLOW)
SYSTEM(char *, setlocale, (int category, const char *name), (category, name),
       NULL, ENOENT)
SYSTEM(error_t, argp_parse,
       (const struct argp *argp, int argc, char **argv, unsigned flags,
        int *index, void *input),
       (argp, argc, argv, flags, index, input), ENOMEM, ENOMEM)

/* Did not converge. */
FAULT_CALL(FAULT_LAPACK, lapack_int, LAPACKE_sgesdd_work,
           (int layout, char job, lapack_int m, lapack_int n, float *a,
            lapack_int lda, float *s, float *u, lapack_int ldu, float *vt,
            lapack_int ldvt, float *work, lapack_int lwork, lapack_int *iwork),
           (layout, job, m, n, a, lda, s, u, ldu, vt, ldvt, work, lwork, iwork),
           1, 0)
FAULT_CALL(FAULT_LAPACK, lapack_int, LAPACKE_dsteqr_work,
           (int layout, char compz, lapack_int n, double *d, double *e,
            double *z, lapack_int ldz, double *work),
           (layout, compz, n, d, e, z, ldz, work), 1, 0)
FAULT_CALL(FAULT_LAPACK, lapack_int, LAPACKE_dsterf_work,
           (lapack_int n, double *d, double *e), (n, d, e), 1, 0)
