#include "log_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "try.h"
#include "writer.h"

/* Behind any data; not at the end, where systems count in signed numbers. */
#define LOCK_BYTE ((off_t)1 << 62)

/* A writer that was killed may still be on its way out. */
enum { LOCK_ATTEMPTS = 50 };
static const struct timespec lock_pause = {.tv_nsec = 20000000};

static struct flock whole_lock(void)
{
    return (struct flock){.l_type = F_WRLCK,
                          .l_whence = SEEK_SET,
                          .l_start = LOCK_BYTE,
                          .l_len = 1};
}

/* 0, EAGAIN if another holds it, or another error number. */
static int try_lock(int fd)
{
    struct flock lock = whole_lock();

    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EACCES ? EAGAIN : errno;
}

static int lock_patiently(int fd)
{
    int failed = try_lock(fd);

    for (int i = 0; failed == EAGAIN && i < LOCK_ATTEMPTS; i++) {
        nanosleep(&lock_pause, NULL);
        failed = try_lock(fd);
    }
    return failed;
}

static bool is_held(int folder, const char *name, int flags)
{
    const int fd =
        openat(folder, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);
    struct flock lock = whole_lock();
    bool held = false;

    if (fd < 0)
        return false;
    held = fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    close(fd);
    return held;
}

bool ge_log_file_is_held(const char *path)
{
    return is_held(AT_FDCWD, path, 0);
}

/* Does the name still lead to the file behind the descriptor? */
static bool is_named(const char *path, int fd)
{
    struct stat there, here;

    return stat(path, &there) == 0 && fstat(fd, &here) == 0 &&
           there.st_dev == here.st_dev && there.st_ino == here.st_ino;
}

gradecho_status ge_log_file_lock(const char *path, int *fd)
{
    gradecho_status status = GRADECHO_OK;
    struct stat about;
    int opened = -1, failed = 0;

    GE_FAIL_IF(stat(path, &about) != 0, GRADECHO_E_INPUT, "log %s: %s", path,
               strerror(errno));
    GE_FAIL_IF(!S_ISREG(about.st_mode), GRADECHO_E_INPUT,
               "log %s is not a regular file", path);
    opened = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    GE_FAIL_IF(opened < 0, GRADECHO_E_SYS, "log %s cannot be written: %s", path,
               strerror(errno));
    failed = lock_patiently(opened);
    GE_FAIL_IF(
        failed == EAGAIN || !is_named(path, opened), GRADECHO_E_EXISTS,
        "log %s is being written by another gradecho: end that one first",
        path);
    if (failed != 0) {
        ge_warn("log %s cannot be locked (%s): make sure that nobody else "
                "writes it",
                path, strerror(failed));
        close(opened);
        opened = -1;
    }
    *fd = opened;
    return GRADECHO_OK;
fail:
    if (opened >= 0)
        close(opened);
    return status;
}

gradecho_status ge_log_check(const char *path, bool overwrite)
{
    gradecho_status status = GRADECHO_OK;
    struct stat about;

    if (lstat(path, &about) == 0) {
        GE_FAIL_IF(!overwrite, GRADECHO_E_EXISTS,
                   "log %s exists; use --resume, --overwrite or another path",
                   path);
        GE_FAIL_IF(!S_ISREG(about.st_mode) && !S_ISLNK(about.st_mode),
                   GRADECHO_E_EXISTS,
                   "log %s exists and is not a file; use another path", path);
        GE_FAIL_IF(ge_log_file_is_held(path), GRADECHO_E_EXISTS,
                   "log %s is being written by another gradecho; use another "
                   "path",
                   path);
    }
fail:
    return status;
}

gradecho_status ge_log_file_begin(const char *path, char **growing, int *fd)
{
    gradecho_status status = GRADECHO_OK;
    char *name = NULL;
    int opened = -1;

    if (asprintf(&name, "%s.%ld.new", path, (long)getpid()) < 0)
        name = NULL;
    GE_FAIL_IF(name == NULL, GRADECHO_E_NOMEM, "log %s: out of memory", path);
    /* Here and not by HDF5, for a plain word on what is wrong. A leftover of
     * the same name is of a dead process: this process id is ours now. */
    opened =
        open(name, O_CREAT | O_TRUNC | O_RDWR | O_NOFOLLOW | O_CLOEXEC, 0666);
    GE_FAIL_IF(opened < 0, GRADECHO_E_SYS, "log %s cannot be created: %s", path,
               strerror(errno));
    /* Without locks the log is as good; it is only not protected. */
    (void)try_lock(opened);
    *growing = name;
    *fd = opened;
    return GRADECHO_OK;
fail:
    free(name);
    return status;
}

gradecho_status ge_log_file_publish(const char *growing, const char *path,
                                    bool overwrite)
{
    gradecho_status status = GRADECHO_OK;
    int failed = 0;

    /* Somebody else may have been faster since the check at the start. */
    GE_TRY(ge_log_check(path, overwrite));
    failed = renameat2(AT_FDCWD, growing, AT_FDCWD, path,
                       overwrite ? 0 : RENAME_NOREPLACE);
    /* Some network file systems cannot refuse to replace; then the check has
     * to do. */
    if (failed != 0 && (errno == EINVAL || errno == ENOSYS))
        failed = rename(growing, path);
    GE_FAIL_IF(failed != 0 && errno == EEXIST, GRADECHO_E_EXISTS,
               "log %s exists; use --resume, --overwrite or another path",
               path);
    GE_FAIL_IF(failed != 0, GRADECHO_E_SYS, "log %s cannot be created: %s",
               path, strerror(errno));
fail:
    return status;
}

/* Is this the name of a file that grows up to be `base`, of a process that is
 * gone? */
static bool is_leftover(int folder, const char *name, const char *base)
{
    const size_t length = strlen(base);
    char *end = NULL;
    long id = 0;

    if (strncmp(name, base, length) != 0 || name[length] != '.')
        return false;
    id = strtol(name + length + 1, &end, 10);
    if (id <= 0 || strcmp(end, ".new") != 0 ||
        (id != getpid() && (kill((pid_t)id, 0) == 0 || errno != ESRCH)))
        return false;
    /* Its process may live where process ids are others: in a container. */
    return !is_held(folder, name, O_NOFOLLOW);
}

void ge_log_file_sweep(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *base = slash != NULL ? slash + 1 : path;
    char *folder =
        slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    DIR *list = folder != NULL ? opendir(folder) : NULL;
    const struct dirent *entry = NULL;

    while (list != NULL && (entry = readdir(list)) != NULL)
        if (is_leftover(dirfd(list), entry->d_name, base) &&
            unlinkat(dirfd(list), entry->d_name, 0) == 0)
            ge_info("removed %s%s, which a killed gradecho left",
                    slash != NULL ? folder : "", entry->d_name);
    if (list != NULL)
        closedir(list);
    free(folder);
}
