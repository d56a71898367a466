#include "inspect.h"

#include "memory.h"
#include "try.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool ge_inspect_open(const char *path, int access, struct ge_segment *segment)
{
    struct stat file;

    *segment = (struct ge_segment){.fd = -1};
    /* O_NONBLOCK: a pipe of that name must not hold us up. */
    segment->fd = open(path, access | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (segment->fd < 0 || fstat(segment->fd, &file) != 0 ||
        !S_ISREG(file.st_mode) || file.st_uid != geteuid())
        return false;
    segment->bytes = (size_t)file.st_size;
    return true;
}

/* Read the header, of which the first lines are constant. \return false,
 * silently, if it is no segment. */
static bool read_header(int fd, struct ge_abi_header *header)
{
    const size_t bytes = sizeof *header;

    memset(header, 0, sizeof *header);
    return pread(fd, header, bytes, 0) == (ssize_t)bytes &&
           /* Relaxed: a private copy. */
           atomic_load_explicit(&header->magic, memory_order_relaxed) ==
               GE_ABI_MAGIC;
}

/* Behind ge_consumer_scan(): is the file `name` a segment of the session? */
static bool is_segment(const char *session, const char *name,
                       struct ge_segment_info *info)
{
    const char *digits = strrchr(name, '.');
    char path[GE_SEGMENT_PATH_MAX];
    struct ge_abi_header header;
    struct ge_segment segment = {.fd = -1};
    unsigned long rank = 0;
    bool found = false;

    if (digits == NULL || strnlen(digits, 12) == 12)
        return false;
    rank = strtoul(digits + 1, NULL, 10);
    /* Writing the path anew refuses signs, zeros in front, other sessions. */
    if (rank > UINT32_MAX ||
        ge_segment_path(session, (uint32_t)rank, path) != GRADECHO_OK ||
        strcmp(strrchr(path, '/') + 1, name) != 0)
        return false;
    if (ge_inspect_open(path, O_RDONLY, &segment) &&
        read_header(segment.fd, &header)) {
        const bool ours = header.version == GE_ABI_VERSION;

        *info = (struct ge_segment_info){
            .rank = (uint32_t)rank,
            .world = ours ? header.world : 0,
            .live = ge_segment_locked(segment.fd, GE_LOCK_PRODUCER),
            /* Relaxed: a private copy. */
            .watched = ours && atomic_load_explicit(&header.sample_every,
                                                    memory_order_relaxed) != 0};
        found = true;
    }
    ge_segment_discard(&segment);
    return found;
}

static int compare_ranks(const void *a, const void *b)
{
    const struct ge_segment_info *left = a, *right = b;

    return (left->rank > right->rank) - (left->rank < right->rank);
}

gradecho_status ge_consumer_scan(const char *session, bool leftovers,
                                 struct ge_segment_info *list, size_t capacity,
                                 size_t *count)
{
    gradecho_status status = GRADECHO_OK;
    char path[GE_SEGMENT_PATH_MAX];
    DIR *folder = NULL;
    size_t found = 0;

    GE_TRY(ge_segment_path(session, 0, path)); /* tells a bad session, once */
    folder = opendir(GE_SEGMENT_FOLDER);
    GE_FAIL_IF(folder == NULL, GRADECHO_E_SYS, "read %s: %s", GE_SEGMENT_FOLDER,
               strerror(errno));
    for (;;) {
        struct ge_segment_info info;
        const struct dirent *entry = NULL;

        errno = 0;
        entry = readdir(folder); /* its buffer belongs to `folder` */
        if (entry == NULL)
            break;
        if (!is_segment(session, entry->d_name, &info) ||
            (!info.live && !leftovers))
            continue;
        GE_FAIL_IF(found == capacity, GRADECHO_E_INPUT,
                   "more than %zu trainers of one session on this node",
                   capacity);
        list[found++] = info;
    }
    GE_FAIL_IF(errno != 0, GRADECHO_E_SYS, "read %s: %s", GE_SEGMENT_FOLDER,
               strerror(errno));
    if (found > 1)
        qsort(list, found, sizeof *list, compare_ranks);
    *count = found;
fail:
    if (folder != NULL)
        closedir(folder);
    return status;
}

/* Counts and sizes that do not depend on the layer table. */
static gradecho_status check_header(const char *path, uint32_t rank,
                                    const struct ge_abi_header *header,
                                    uint64_t file_bytes)
{
    gradecho_status status = GRADECHO_OK;

    /* Before all else: whatever follows means what its version says. */
    GE_FAIL_IF(header->version != GE_ABI_VERSION, GRADECHO_E_ABI,
               "%s has handoff version %" PRIu32 ", this monitor reads %" PRIu32
               ": use the same gradecho for both",
               path, header->version, GE_ABI_VERSION);
    GE_FAIL_IF(
        header->header_bytes != sizeof *header ||
            header->layer_bytes != sizeof(struct ge_abi_layer) ||
            header->total_bytes != file_bytes || header->rank != rank ||
            header->rank >= header->world ||
            header->slot_count < GE_ABI_SLOTS_MIN ||
            header->slot_count > GE_ABI_SLOTS_MAX || header->replicas_max < 1 ||
            header->replicas_max > GE_ABI_REPLICAS_MAX || header->mean > 1 ||
            header->layer_count < 1 ||
            header->layer_count > GE_ABI_LAYERS_MAX ||
            header->layers_offset != sizeof *header ||
            header->layer_count * sizeof(struct ge_abi_layer) > file_bytes,
        GRADECHO_E_INPUT, "%s: inconsistent header", path);
fail:
    return status;
}

/* Copy the layer table; check that the layout is the one that follows. */
static gradecho_status read_table(int fd, const char *path,
                                  const struct ge_abi_header *header,
                                  struct ge_declared *declared)
{
    gradecho_status status = GRADECHO_OK;
    const size_t count = header->layer_count;
    const size_t bytes = count * sizeof *declared->table;
    struct ge_layout *layout = &declared->layout;
    bool same = true;

    declared->table = ge_alloc(count, sizeof *declared->table);
    declared->layers = ge_alloc(count, sizeof *declared->layers);
    declared->spans = ge_alloc(count, sizeof *declared->spans);
    GE_FAIL_IF(declared->table == NULL || declared->layers == NULL ||
                   declared->spans == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu layers", count);
    GE_FAIL_IF(pread(fd, declared->table, bytes,
                     (off_t)header->layers_offset) != (ssize_t)bytes,
               GRADECHO_E_INPUT, "%s: cannot read the layer table", path);
    for (size_t l = 0; l < count; l++) {
        const struct ge_abi_layer *from = &declared->table[l];

        GE_FAIL_IF(memchr(from->name, '\0', sizeof from->name) == NULL ||
                       from->dtype > INT32_MAX,
                   GRADECHO_E_INPUT, "%s: inconsistent layer table", path);
        declared->layers[l] =
            (struct gradecho_layer){.name = from->name,
                                    .rows = from->rows,
                                    .cols = from->cols,
                                    .dtype = (gradecho_dtype)from->dtype};
    }
    GE_TRY(ge_segment_check_layers(declared->layers, count, GRADECHO_E_INPUT));
    same = ge_segment_layout(
               header->slot_count, header->replicas_max + header->mean,
               declared->layers, count, declared->spans, layout) &&
           header->slots_offset == layout->slots_offset &&
           header->slot_bytes == layout->slot_bytes &&
           header->presence_offset == layout->presence_offset &&
           header->payload_offset == layout->payload_offset &&
           header->replica_bytes == layout->replica_bytes &&
           header->total_bytes == layout->total_bytes;
    for (size_t l = 0; same && l < count; l++)
        same = declared->table[l].offset == declared->spans[l].offset;
    GE_FAIL_IF(!same, GRADECHO_E_INPUT, "%s: offsets do not fit the layers",
               path);
fail:
    return status;
}

gradecho_status ge_inspect_declared(const struct ge_segment *segment,
                                    const char *path, uint32_t rank,
                                    struct ge_declared *declared)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_abi_header *header = &declared->constants;

    GE_FAIL_IF(!read_header(segment->fd, &declared->constants),
               GRADECHO_E_INPUT, "%s is not a segment", path);
    GE_TRY(check_header(path, rank, header, segment->bytes));
    GE_TRY(read_table(segment->fd, path, header, declared));
    declared->geometry =
        (struct ge_geometry){.rank = header->rank,
                             .world = header->world,
                             .slots = header->slot_count,
                             .replicas = header->replicas_max,
                             .mean = header->mean != 0,
                             .layer_count = header->layer_count,
                             .layers = declared->layers};
fail:
    return status;
}

void ge_inspect_fini(struct ge_declared *declared)
{
    free(declared->table);
    free(declared->layers);
    free(declared->spans);
    memset(declared, 0, sizeof *declared);
}
