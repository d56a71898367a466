#include "survey.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "inspect.h"
#include "try.h"

const char *const ge_survey_folder = GE_SEGMENT_FOLDER;

gradecho_status ge_survey_room(uint64_t *available, uint64_t *total)
{
    gradecho_status status = GRADECHO_OK;
    struct statvfs folder;

    GE_FAIL_IF(statvfs(GE_SEGMENT_FOLDER, &folder) != 0, GRADECHO_E_SYS,
               "look at %s: %s", GE_SEGMENT_FOLDER, strerror(errno));
    *available = (uint64_t)folder.f_bavail * folder.f_frsize;
    *total = (uint64_t)folder.f_blocks * folder.f_frsize;
fail:
    return status;
}

gradecho_status ge_survey_try(void)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_segment segment = {.fd = -1};
    char open_file[32];
    int again = -1;

    GE_TRY(ge_segment_create(4096, &segment));
    /* Opened anew, as a monitor does: the lock is another one's now. */
    snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", segment.fd);
    again = open(open_file, O_RDWR | O_CLOEXEC);
    GE_FAIL_IF(again < 0, GRADECHO_E_SYS, "open %s: %s; is /proc mounted?",
               open_file, strerror(errno));
    GE_FAIL_IF(!ge_segment_locked(again, GE_LOCK_PRODUCER), GRADECHO_E_SYS,
               "locks on files in %s do not work", GE_SEGMENT_FOLDER);
fail:
    if (again >= 0)
        close(again);
    ge_segment_discard(&segment);
    return status;
}

uint64_t ge_survey_need(uint64_t entries, gradecho_dtype dtype, uint32_t slots,
                        uint32_t replicas)
{
    const struct gradecho_layer all = {
        .name = "all", .rows = 1, .cols = entries, .dtype = dtype};
    struct ge_layout layout;
    struct ge_span span;

    return ge_segment_layout(slots, replicas, &all, 1, &span, &layout)
               ? layout.total_bytes
               : 0;
}

/* Is `path` a segment? And does a trainer hold it? */
static bool is_segment(const char *path, bool *held, uint64_t *bytes)
{
    struct ge_segment segment;
    uint64_t magic = 0;
    const bool is =
        ge_inspect_open(path, O_RDONLY, &segment) &&
        pread(segment.fd, &magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
        magic == GE_ABI_MAGIC;

    *held = is && ge_segment_locked(segment.fd, GE_LOCK_PRODUCER);
    *bytes = segment.bytes;
    ge_segment_discard(&segment);
    return is;
}

/* The next file of the folder that has a segment's name; false: no more. */
static bool next_path(DIR *folder, char *path, size_t size)
{
    const struct dirent *entry = NULL;

    while ((entry = readdir(folder)) != NULL)
        if (strncmp(entry->d_name, GE_SEGMENT_PREFIX,
                    strlen(GE_SEGMENT_PREFIX)) == 0 &&
            snprintf(path, size, "%s/%s", GE_SEGMENT_FOLDER, entry->d_name) <
                (int)size)
            return true;
    return false;
}

gradecho_status ge_survey_dead(bool clean, struct ge_survey_dead *dead)
{
    gradecho_status status = GRADECHO_OK;
    char path[sizeof dead->example];
    uint64_t bytes = 0;
    bool held = false;
    DIR *folder = opendir(GE_SEGMENT_FOLDER);

    *dead = (struct ge_survey_dead){0};
    GE_FAIL_IF(folder == NULL, GRADECHO_E_SYS, "read %s: %s", GE_SEGMENT_FOLDER,
               strerror(errno));
    while (next_path(folder, path, sizeof path)) {
        if (!is_segment(path, &held, &bytes) || held)
            continue;
        dead->count++;
        dead->bytes += bytes;
        memcpy(dead->example, path, sizeof path);
        if (clean && ge_segment_clear(path) >= GRADECHO_OK)
            dead->removed++;
    }
fail:
    if (folder != NULL)
        closedir(folder);
    return status;
}

/* Is `name` one of those that stand in `names`? */
static bool is_among(const char *names, char between, const char *name)
{
    const size_t length = strlen(name);

    while (*names != '\0') {
        const char *end = strchrnul(names, between);

        if ((size_t)(end - names) == length &&
            strncmp(names, name, length) == 0)
            return true;
        names = *end != '\0' ? end + 1 : end;
    }
    return false;
}

void ge_survey_live(char between, char *names, size_t size)
{
    const size_t before =
        sizeof GE_SEGMENT_FOLDER + sizeof GE_SEGMENT_PREFIX - 1;
    DIR *folder = opendir(GE_SEGMENT_FOLDER);
    char path[256];
    uint64_t bytes = 0;
    bool held = false;

    names[0] = '\0';
    while (folder != NULL && next_path(folder, path, sizeof path)) {
        char *rank = strrchr(path, '.');
        const size_t used = strlen(names);

        if (!is_segment(path, &held, &bytes) || !held || rank < path + before)
            continue;
        *rank = '\0';
        if (!is_among(names, between, path + before) &&
            used + strlen(path + before) + 2 <= size)
            snprintf(names + used, size - used, "%.*s%s", used > 0, &between,
                     path + before);
    }
    if (folder != NULL)
        closedir(folder);
}
