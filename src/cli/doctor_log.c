/*
 * gradecho doctor: the folder of the log.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "doctor.h"
#include "probe.h"
#include "writer.h"

/* HDF5's single-writer mode needs writes to arrive in order; these do not
 * promise it between hosts. */
static const char *network_file_system(const char *folder)
{
    static const struct {
        long type;
        const char *name;
    } known[] = {{NFS_SUPER_MAGIC, "NFS"}, {SMB_SUPER_MAGIC, "SMB"},
                 {0xff534d42, "CIFS"},     {0xfe534d42, "SMB2"},
                 {V9FS_MAGIC, "9p"},       {CEPH_SUPER_MAGIC, "Ceph"},
                 {0x0bd00bd0, "Lustre"}};
    struct statfs about;

    if (statfs(folder, &about) != 0)
        return NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if ((long)about.f_type == known[i].type)
            return known[i].name;
    return NULL;
}

/* Is a lock that one open file holds refused to another? */
static bool locks_work(const char *folder)
{
    char *path = NULL;
    int one = -1, two = -1;
    bool work = false;

    if (asprintf(&path, "%s/.gradecho-lock.%ld", folder, (long)getpid()) < 0)
        return false;
    one = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    two = open(path, O_RDWR | O_CLOEXEC);
    work = one >= 0 && two >= 0 && flock(one, LOCK_EX | LOCK_NB) == 0 &&
           flock(two, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    if (one >= 0)
        close(one);
    if (two >= 0)
        close(two);
    unlink(path);
    free(path);
    return work;
}

/* "run.h5.4711.new" of a process that is gone: its log never got its name. */
static bool is_abandoned(const char *name)
{
    const size_t length = strlen(name), tail = strlen(".new");
    const char *digits = NULL;
    char *end = NULL;

    if (length <= tail || strcmp(name + length - tail, ".new") != 0)
        return false;
    for (digits = name + length - tail;
         digits > name && digits[-1] >= '0' && digits[-1] <= '9';)
        digits--;
    if (digits == name + length - tail || digits == name || digits[-1] != '.')
        return false;
    const long process = strtol(digits, &end, 10);

    return process > 0 && kill((pid_t)process, 0) != 0 && errno == ESRCH;
}

static void check_abandoned(struct ge_doctor *d, const char *folder)
{
    const struct dirent *entry = NULL;
    DIR *names = opendir(folder);
    char example[512] = "";
    unsigned count = 0;

    while (names != NULL && (entry = readdir(names)) != NULL) {
        if (!is_abandoned(entry->d_name))
            continue;
        count++;
        snprintf(example, sizeof example, "%s/%s", folder, entry->d_name);
    }
    if (names != NULL)
        closedir(names);
    if (count > 0)
        ge_doctor_say(d, GE_WARNING, "leftovers",
                      "%u log%s that never got a name: rm %s%s", count,
                      count == 1 ? "" : "s", example,
                      count > 1 ? ", and the others" : "");
}

static void check_folder(struct ge_doctor *d, const char *folder)
{
    const char *network = network_file_system(folder);
    const double least = 10e6; /* an empty log and some rows */
    struct statvfs about = {0};
    const bool known = statvfs(folder, &about) == 0;
    const double room = (double)about.f_bavail * (double)about.f_frsize;

    /* Whatever else is wrong, the attempt will say. */
    if (known && (about.f_flag & ST_RDONLY) == 0 && room < least) {
        ge_doctor_say(d, GE_PROBLEM, "log",
                      "%.1f MB free in %s: make room, or put the log elsewhere",
                      room / 1e6, folder);
        return;
    }
    if (ge_log_probe(folder) < GRADECHO_OK) {
        ge_doctor_say_last(d, "log",
                           "; put the log on a local file system that can be "
                           "written to");
        return;
    }
    if (network != NULL)
        ge_doctor_say(d, GE_WARNING, "log",
                      "%s is on %s: HDF5 does not support reading a growing "
                      "log from another host there; prefer a local file system",
                      folder, network);
    if (!locks_work(folder))
        ge_doctor_say(d, GE_WARNING, "log",
                      "locks on files in %s do not work: two writers of one "
                      "log would not notice each other; if HDF5 complains, "
                      "export HDF5_USE_FILE_LOCKING=FALSE",
                      folder);
    else if (network == NULL)
        ge_doctor_say(d, GE_FINE, "log",
                      "%s: written and read at once, locks work, %.2f GB free",
                      folder, room / 1e9);
}

void ge_doctor_log(struct ge_doctor *d)
{
    char *copy = strdup(d->log);

    if (copy == NULL)
        return;
    const char *folder = dirname(copy);

    check_abandoned(d, folder);
    if (ge_log_check(d->log, false) < GRADECHO_OK)
        ge_doctor_say(d, GE_WARNING, "log", "%s", ge_message_last());
    check_folder(d, folder);
    free(copy);
}
