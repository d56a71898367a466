#include "segment.h"

#include "abi.h"
#include "convert.h"
#include "machine.h"
#include "memory.h"
#include "try.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE /* Linux 5.14, glibc 2.35 */
#define MADV_POPULATE_WRITE 23
#endif

gradecho_status ge_segment_path(const char *session, uint32_t rank,
                                char path[GE_SEGMENT_PATH_MAX])
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                  "0123456789._-";
    gradecho_status status = GRADECHO_OK;

    if (session == NULL)
        session = getenv(GRADECHO_SESSION_ENV);
    if (session == NULL)
        session = "default";
    GE_FAIL_IF(session[0] == '\0', GRADECHO_E_ARG, "the session name is empty");
    GE_FAIL_IF(strnlen(session, GRADECHO_SESSION_MAX + 1) >
                   GRADECHO_SESSION_MAX,
               GRADECHO_E_ARG,
               "the session name \"%.*s...\" is longer than %d characters",
               GRADECHO_SESSION_MAX, session, GRADECHO_SESSION_MAX);
    GE_FAIL_IF(
        session[strspn(session, allowed)] != '\0', GRADECHO_E_ARG,
        "session name \"%s\": only letters, digits and . _ - may be used",
        session);
    snprintf(path, GE_SEGMENT_PATH_MAX, "%s/%s%s.%u", GE_SEGMENT_FOLDER,
             GE_SEGMENT_PREFIX, session, (unsigned)rank);
fail:
    return status;
}

/* Step over one UTF-8 character that is not a control character. */
static bool next_character(const unsigned char **at)
{
    static const uint32_t least[] = {0x20, 0xa0, 0x800, 0x10000};
    const unsigned char *s = *at;
    const size_t more = s[0] < 0x80 ? 0 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : 3;
    uint32_t code = more == 0 ? s[0] : s[0] & (0x3fu >> more);

    if ((s[0] & 0xc0) == 0x80 || s[0] > 0xf4)
        return false;
    for (size_t i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return false; /* the terminator, too, ends up here */
        code = code << 6 | (s[i] & 0x3fu);
    }
    *at = s + more + 1;
    return code >= least[more] && code <= 0x10ffff && code != 0x7f &&
           (code < 0xd800 || code > 0xdfff);
}

static bool is_name(const char *name)
{
    const unsigned char *at = (const unsigned char *)name;

    if (name == NULL || name[0] == '\0' ||
        strnlen(name, GRADECHO_NAME_MAX + 1) > GRADECHO_NAME_MAX)
        return false;
    while (*at != '\0')
        if (!next_character(&at))
            return false;
    return true;
}

static int compare_names(const void *a, const void *b)
{
    const char *const *left = a, *const *right = b;

    return strcmp(*left, *right);
}

gradecho_status ge_segment_check_layers(const struct gradecho_layer *layers,
                                        size_t count, gradecho_status code)
{
    gradecho_status status = GRADECHO_OK;
    const char **names = ge_alloc(count, sizeof *names);

    GE_FAIL_IF(names == NULL, GRADECHO_E_NOMEM, "no memory for %zu layer names",
               count);
    for (size_t l = 0; l < count; l++) {
        const struct gradecho_layer *layer = &layers[l];

        GE_FAIL_IF(!is_name(layer->name), code,
                   "layer %zu: the name must be 1 to %d bytes of UTF-8 without "
                   "control characters",
                   l, GRADECHO_NAME_MAX);
        GE_FAIL_IF(layer->rows == 0 || layer->cols == 0, code,
                   "layer %s: %llu x %llu is empty", layer->name,
                   (unsigned long long)layer->rows,
                   (unsigned long long)layer->cols);
        GE_FAIL_IF(ge_dtype_size(layer->dtype) == 0, code,
                   "layer %s: unknown dtype %d", layer->name,
                   (int)layer->dtype);
        names[l] = layer->name;
    }
    qsort(names, count, sizeof *names, compare_names);
    for (size_t l = 1; l < count; l++)
        GE_FAIL_IF(strcmp(names[l - 1], names[l]) == 0, code,
                   "two layers are called %s", names[l]);
fail:
    free(names);
    return status;
}

/* *sum = align(*sum + count * size), if it fits. */
static bool extend(uint64_t *sum, uint64_t count, uint64_t size)
{
    uint64_t bytes = 0;

    return ge_mul_u64(count, size, &bytes) && ge_add_u64(*sum, bytes, sum) &&
           ge_align_u64(*sum, sum);
}

bool ge_segment_layout(uint32_t slots, uint32_t blocks,
                       const struct gradecho_layer *layers, size_t count,
                       struct ge_span *spans, struct ge_layout *layout)
{
    struct ge_layout to = {.layers_offset = sizeof(struct ge_abi_header),
                           .presence_offset = sizeof(struct ge_abi_slot)};

    for (size_t l = 0; l < count; l++) {
        uint64_t entries = 0;

        spans[l].offset = to.replica_bytes;
        if (!ge_mul_u64(layers[l].rows, layers[l].cols, &entries) ||
            !ge_mul_u64(entries, ge_dtype_size(layers[l].dtype),
                        &spans[l].bytes) ||
            !extend(&to.replica_bytes, spans[l].bytes, 1))
            return false;
    }
    to.payload_offset = to.presence_offset;
    to.slots_offset = to.layers_offset;
    if (!extend(&to.payload_offset, blocks, count) ||
        !extend(&to.slots_offset, count, sizeof(struct ge_abi_layer)))
        return false;
    to.slot_bytes = to.payload_offset;
    to.total_bytes = to.slots_offset;
    if (!extend(&to.slot_bytes, blocks, to.replica_bytes) ||
        !extend(&to.total_bytes, slots, to.slot_bytes))
        return false;
    *layout = to;
    /* Half of size_t: off_t and pointer differences are signed. */
    return to.total_bytes <= SIZE_MAX / 2;
}

uint64_t ge_segment_check(const struct ge_abi_slot *slot, uint64_t instance)
{
    const unsigned char *bytes = (const unsigned char *)slot;
    uint64_t hash = UINT64_C(0xcbf29ce484222325) ^ instance;

    for (size_t i = 0; i < offsetof(struct ge_abi_slot, check); i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* Reserve the pages of the file: not ftruncate(), which succeeds on a full
 * tmpfs, so that the first store dies of SIGBUS. In pieces, because tmpfs
 * starts a piece anew when a signal arrives, which a profiler's timer does for
 * ever. Answers an errno value. */
static int reserve(int fd, uint64_t bytes)
{
    const uint64_t piece = UINT64_C(1) << 20;
    int error = 0;

    for (uint64_t at = 0; at < bytes && error == 0; at += piece) {
        const uint64_t n = bytes - at < piece ? bytes - at : piece;

        do
            error = posix_fallocate(fd, (off_t)at, (off_t)n);
        while (error == EINTR);
    }
    return error;
}

/* Memory that can be given to us without swapping or killing; all of it if the
 * kernel does not tell. */
static uint64_t memory_available(void)
{
    uint64_t available = 0, total = 0;

    (void)!ge_machine_memory("", &available, &total);
    return available;
}

/* Reserving until it fails would take every page that others need on the way:
 * what cannot succeed is not begun. */
static int reserve_if_free(int fd, uint64_t bytes)
{
    struct statvfs folder;

    if (fstatvfs(fd, &folder) == 0 && folder.f_blocks > 0 && /* 0: no limit */
        (uint64_t)folder.f_bavail < bytes / folder.f_frsize)
        return ENOSPC;
    return bytes < memory_available() ? reserve(fd, bytes) : ENOMEM;
}

static gradecho_status reserve_or_tell(int fd, uint64_t bytes)
{
    gradecho_status status = GRADECHO_OK;
    const double mb = 1e6;
    struct rlimit limit;
    struct statvfs folder;
    int error = 0;

    /* Beyond the limit the kernel would kill the trainer by SIGXFSZ. */
    GE_FAIL_IF(getrlimit(RLIMIT_FSIZE, &limit) == 0 &&
                   limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < bytes,
               GRADECHO_E_NOSPACE,
               "the handoff needs %.1f MB, more than this process may write to "
               "a file: raise ulimit -f",
               (double)bytes / mb);
    error = reserve_if_free(fd, bytes);
    if (error == ENOSPC && fstatvfs(fd, &folder) == 0) {
        /* Give back what was had, to tell what is free without us. */
        if (ftruncate(fd, 0) == 0)
            (void)fstatvfs(fd, &folder);
        GE_FAIL(GRADECHO_E_NOSPACE,
                "the handoff needs %.1f MB in %s, where %.1f MB are free: "
                "enlarge it (docker run --shm-size, mount -o remount,size=), "
                "remove leftovers there, or ask for fewer slots",
                (double)bytes / mb, GE_SEGMENT_FOLDER,
                (double)folder.f_bavail * (double)folder.f_frsize / mb);
    }
    GE_FAIL_IF(error == ENOMEM, GRADECHO_E_NOMEM,
               "the handoff needs %.1f MB of memory, and the machine or "
               "container has %.1f "
               "MB left: ask for fewer slots or replicas",
               (double)bytes / mb, (double)memory_available() / mb);
    GE_FAIL_IF(error != 0,
               error == ENOSPC ? GRADECHO_E_NOSPACE : GRADECHO_E_SYS,
               "reserve %.1f MB in %s: %s", (double)bytes / mb,
               GE_SEGMENT_FOLDER, strerror(error));
fail:
    return status;
}

gradecho_status ge_segment_create(uint64_t bytes, struct ge_segment *made)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_segment segment = {.bytes = (size_t)bytes, .fd = -1};
    int error = 0;

    segment.fd = open(GE_SEGMENT_FOLDER, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    GE_FAIL_IF(segment.fd < 0, GRADECHO_E_SYS,
               "cannot make a nameless file in %s: %s; it must be a writable "
               "tmpfs",
               GE_SEGMENT_FOLDER, strerror(errno));
    GE_TRY(reserve_or_tell(segment.fd, bytes));
    segment.base = mmap(NULL, segment.bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                        segment.fd, 0);
    if (segment.base == MAP_FAILED) {
        segment.base = NULL;
        GE_FAIL(GRADECHO_E_NOMEM, "map %.1f MB: %s", (double)bytes / 1e6,
                strerror(errno));
    }
    /* Takes the page faults now, not in the first step. An older kernel does
     * not know it, and the pages are reserved either way. */
    (void)madvise(segment.base, segment.bytes, MADV_POPULATE_WRITE);
    error = ge_segment_lock(segment.fd, GE_LOCK_PRODUCER);
    GE_FAIL_IF(error != 0, GRADECHO_E_SYS,
               "lock a file in %s: %s; open-file-description locks (Linux "
               "3.15) are needed",
               GE_SEGMENT_FOLDER, strerror(error));
    *made = segment;
    return GRADECHO_OK;
fail:
    ge_segment_discard(&segment);
    return status;
}

gradecho_status ge_segment_clear(const char *path)
{
    gradecho_status status = GRADECHO_OK;
    const int fd = open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat file;
    int error = 0;

    if (fd < 0 && errno == ENOENT)
        return GRADECHO_OK;
    /* Root may open another user's file, but it is still not ours. */
    GE_FAIL_IF(fd < 0 || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode) ||
                   file.st_uid != geteuid(),
               GRADECHO_E_EXISTS,
               "%s is not ours to replace (another user's, or not a file): "
               "choose another session name",
               path);
    error = ge_segment_lock(fd, GE_LOCK_PRODUCER);
    GE_FAIL_IF(error == EAGAIN, GRADECHO_E_EXISTS,
               "%s is in use by a live trainer, or a child that it left "
               "behind: choose another session name or rank",
               path);
    GE_FAIL_IF(error != 0, GRADECHO_E_SYS, "lock %s: %s", path,
               strerror(error));
    ge_segment_unlink(fd, path);
fail:
    if (fd >= 0)
        close(fd);
    return status;
}

gradecho_status ge_segment_publish(int fd, const char *path)
{
    gradecho_status status = GRADECHO_OK;
    char open_file[32];

    /* Through /proc, because AT_EMPTY_PATH asks for a capability. */
    snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", fd);
    for (int i = 0; i < 16; i++) {
        if (linkat(AT_FDCWD, open_file, AT_FDCWD, path, AT_SYMLINK_FOLLOW) == 0)
            return GRADECHO_OK;
        GE_FAIL_IF(errno != EEXIST, GRADECHO_E_SYS, "name %s as %s: %s",
                   open_file, path, strerror(errno));
        GE_TRY(ge_segment_clear(path));
    }
    GE_FAIL(GRADECHO_E_EXISTS, "%s is taken again and again by others", path);
fail:
    return status;
}

void ge_segment_unlink(int fd, const char *path)
{
    struct stat ours, named;

    if (fstat(fd, &ours) == 0 && lstat(path, &named) == 0 &&
        ours.st_dev == named.st_dev && ours.st_ino == named.st_ino)
        (void)unlink(path);
}

void ge_segment_discard(struct ge_segment *segment)
{
    if (segment->base != NULL)
        munmap(segment->base, segment->bytes);
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = (struct ge_segment){.fd = -1};
}

static int lock_operation(int fd, int byte, int operation, short *type)
{
    struct flock range = {
        .l_type = *type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

    if (fcntl(fd, operation, &range) != 0)
        return errno == EACCES ? EAGAIN : errno;
    *type = range.l_type;
    return 0;
}

int ge_segment_lock(int fd, int byte)
{
    short type = F_WRLCK;

    return lock_operation(fd, byte, F_OFD_SETLK, &type);
}

bool ge_segment_locked(int fd, int byte)
{
    short type = F_WRLCK;

    return lock_operation(fd, byte, F_OFD_GETLK, &type) != 0 || type != F_UNLCK;
}
