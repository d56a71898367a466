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

/* Is `path` a segment that no trainer holds? */
static bool is_dead(const char *path, uint64_t *bytes)
{
    struct ge_segment segment;
    uint64_t magic = 0;
    const bool dead =
        ge_inspect_open(path, O_RDONLY, &segment) &&
        pread(segment.fd, &magic, sizeof magic, 0) == (ssize_t)sizeof magic &&
        magic == GE_ABI_MAGIC &&
        !ge_segment_locked(segment.fd, GE_LOCK_PRODUCER);

    *bytes = segment.bytes;
    ge_segment_discard(&segment);
    return dead;
}

gradecho_status ge_survey_dead(bool clean, struct ge_survey_dead *dead)
{
    gradecho_status status = GRADECHO_OK;
    const struct dirent *entry = NULL;
    DIR *folder = opendir(GE_SEGMENT_FOLDER);

    *dead = (struct ge_survey_dead){0};
    GE_FAIL_IF(folder == NULL, GRADECHO_E_SYS, "read %s: %s", GE_SEGMENT_FOLDER,
               strerror(errno));
    while ((entry = readdir(folder)) != NULL) {
        char path[sizeof dead->example];
        uint64_t bytes = 0;

        if (strncmp(entry->d_name, GE_SEGMENT_PREFIX,
                    strlen(GE_SEGMENT_PREFIX)) != 0 ||
            snprintf(path, sizeof path, "%s/%s", GE_SEGMENT_FOLDER,
                     entry->d_name) >= (int)sizeof path ||
            !is_dead(path, &bytes))
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
