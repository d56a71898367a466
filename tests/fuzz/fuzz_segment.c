/*
 * A segment as untrusted input. A trainer in this process makes a sound one;
 * the bytes then decide what happens to it: fields and bytes are overwritten
 * before and after the monitor attaches, samples are handed over, slots are
 * sealed with a right checksum so that damage gets past it, the file is cut off
 * and grown. The monitor's end goes on through all of it, and every pointer
 * that it hands out is checked against the mapping and read.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "consumer_private.h" /* its mapping */
#include "convert.h"
#include "memory.h"
#include "message.h"

enum { SLOTS = 3, REPLICAS = 2, LAYERS = 3, STEPS_MAX = 64, ENTRIES_MAX = 64 };

static const struct gradecho_layer table[LAYERS] = {
    {"block.0.weight", 3, 5, GRADECHO_F32},
    {"block.1.weight", 2, 7, GRADECHO_F64},
    {"b", 1, 13, GRADECHO_BF16},
};

/* Where a stray write does most. */
#define FIELD(name)                                   \
    {                                                 \
        offsetof(struct ge_abi_header, name),         \
            sizeof(((struct ge_abi_header *)0)->name) \
    }
#define OF_LAYER(name)                                               \
    {                                                                \
        sizeof(struct ge_abi_header) + sizeof(struct ge_abi_layer) + \
            offsetof(struct ge_abi_layer, name),                     \
            sizeof(((struct ge_abi_layer *)0)->name)                 \
    }
static const struct {
    size_t at, bytes;
} fields[] = {
    FIELD(magic),          FIELD(version),
    FIELD(header_bytes),   FIELD(total_bytes),
    FIELD(rank),           FIELD(world),
    FIELD(slot_count),     FIELD(replicas_max),
    FIELD(mean),           FIELD(reserved_mean),
    FIELD(layer_count),    FIELD(layer_bytes),
    FIELD(layers_offset),  FIELD(slots_offset),
    FIELD(slot_bytes),     FIELD(presence_offset),
    FIELD(payload_offset), FIELD(replica_bytes),
    FIELD(head),           FIELD(dropped),
    FIELD(wake),           FIELD(closed),
    FIELD(tail),           FIELD(sample_every),
    FIELD(sample_from),    FIELD(attached),
    OF_LAYER(rows),        OF_LAYER(cols),
    OF_LAYER(offset),      OF_LAYER(dtype),
};
enum { FIELDS = sizeof fields / sizeof *fields };

struct world {
    gradecho *trainer;
    ge_consumer *monitor;
    int fd; /* of the segment */
    uint64_t bytes, slots_offset, slot_bytes, instance;
    bool cut; /* the trainer's own pages may be gone: it is left alone */
    int64_t step;
};

static void begin_world(struct world *w)
{
    struct gradecho_options options = gradecho_options_default();
    struct ge_abi_header header;
    char path[GE_SEGMENT_PATH_MAX];
    char name[32];

    snprintf(name, sizeof name, "fuzz.%ld", (long)getpid());
    (void)setenv(GRADECHO_SESSION_ENV, name, 0);
    options.slots = SLOTS;
    options.replicas = REPLICAS;
    options.mean = 1;
    options.layers = table;
    options.layer_count = LAYERS;
    FUZZ_CHECK(gradecho_open(&options, &w->trainer) == GRADECHO_OK);
    FUZZ_CHECK(ge_segment_path(NULL, 0, path) == GRADECHO_OK);
    w->fd = open(path, O_RDWR | O_CLOEXEC);
    FUZZ_CHECK(w->fd >= 0);
    FUZZ_CHECK(pread(w->fd, &header, sizeof header, 0) == sizeof header);
    w->bytes = header.total_bytes;
    w->slots_offset = header.slots_offset;
    w->slot_bytes = header.slot_bytes;
    w->instance = header.instance;
}

static void end_world(struct world *w)
{
    ge_consumer_detach(&w->monitor);
    FUZZ_CHECK(ftruncate(w->fd, (off_t)w->bytes) == 0);
    gradecho_close(&w->trainer);
    close(w->fd);
}

static void hand_over(struct world *w, struct fuzz_bytes *in)
{
    static const double data[ENTRIES_MAX];
    const uint8_t what = fuzz_u8(in);
    const struct gradecho_meta meta = {.gradient_scale = 1.0 + what % 3};

    if (w->cut || gradecho_begin(w->trainer, w->step++) != GRADECHO_OK)
        return;
    for (uint32_t r = 0; r <= what % REPLICAS; r++)
        for (size_t l = 0; l < LAYERS; l++)
            if ((what >> (2 + l) & 1) == 0)
                fuzz_any(gradecho_write(w->trainer, r, l, data));
    for (size_t l = 0; l < LAYERS && what >= 128; l++)
        fuzz_any(gradecho_write_mean(w->trainer, l, data));
    fuzz_any(gradecho_publish(w->trainer, &meta));
}

static void overwrite(struct world *w, const void *bytes, size_t count,
                      uint64_t at)
{
    /* Never beyond the end: the file's size is another operation's. */
    struct stat file;

    FUZZ_CHECK(fstat(w->fd, &file) == 0);
    if (at < (uint64_t)file.st_size && count <= (uint64_t)file.st_size - at)
        FUZZ_CHECK(pwrite(w->fd, bytes, count, (off_t)at) == (ssize_t)count);
}

static void change_field(struct world *w, struct fuzz_bytes *in)
{
    const size_t i = fuzz_u8(in) % FIELDS;
    const uint8_t how = fuzz_u8(in);
    uint64_t value = 0;

    if (pread(w->fd, &value, fields[i].bytes, (off_t)fields[i].at) < 0)
        return;
    if (how < 32)
        value += how;
    else if (how < 64)
        value -= how - 31U;
    else if (how < 128)
        value = UINT64_C(1) << how % 64;
    else
        value = fuzz_number(in, (int)fields[i].bytes);
    overwrite(w, &value, fields[i].bytes, fields[i].at);
}

/* Change a slot's header; with `how` odd, make its checksum right again. */
static void change_slot(struct world *w, struct fuzz_bytes *in)
{
    const uint64_t at = w->slots_offset + fuzz_u8(in) % SLOTS * w->slot_bytes;
    const uint8_t how = fuzz_u8(in), first = fuzz_u8(in);
    struct ge_abi_slot slot = {0};
    size_t count = 0;

    if (pread(w->fd, &slot, sizeof slot, (off_t)at) != sizeof slot)
        return;
    const uint8_t *bytes = fuzz_take(in, how % 8, &count);
    const size_t from = first % (sizeof slot - 8);

    memcpy((unsigned char *)&slot + from, bytes, count);
    if (how >= 128)
        slot.check = ge_segment_check(&slot, w->instance);
    overwrite(w, &slot, sizeof slot, at);
}

static void change_bytes(struct world *w, struct fuzz_bytes *in)
{
    const uint64_t at = fuzz_u16(in) % w->bytes;
    size_t count = 0;
    const uint8_t *bytes = fuzz_take(in, fuzz_u8(in) % 16, &count);

    overwrite(w, bytes, count, at);
}

static void resize(struct world *w, struct fuzz_bytes *in)
{
    const uint64_t to = fuzz_u16(in);

    w->cut = w->cut || to < w->bytes;
    FUZZ_CHECK(ftruncate(w->fd, (off_t)to) == 0);
}

static void touch(const ge_consumer *monitor,
                  const struct ge_handed_sample *sample)
{
    const struct ge_geometry *geometry = ge_consumer_geometry(monitor);
    const unsigned char *base = monitor->segment.base;

    FUZZ_CHECK(sample->step >= 0 && sample->replicas >= 1);
    FUZZ_CHECK(sample->replicas <= geometry->replicas);
    for (uint32_t r = 0; r < sample->replicas; r++)
        for (size_t l = 0; l < geometry->layer_count; l++) {
            const struct gradecho_layer *layer = &geometry->layers[l];
            const unsigned char *data = ge_consumer_data(monitor, r, l);
            const uint64_t entries = layer->rows * layer->cols;
            const uint64_t bytes = entries * ge_dtype_size(layer->dtype);
            float out[ENTRIES_MAX];

            if (data == NULL)
                continue;
            FUZZ_CHECK(data >= base && (uintptr_t)data % GE_ALIGNMENT == 0);
            FUZZ_CHECK(bytes <= monitor->segment.bytes &&
                       (size_t)(data - base) <=
                           monitor->segment.bytes - (size_t)bytes);
            for (uint64_t first = 0; first < entries; first += ENTRIES_MAX)
                ge_convert(layer->dtype, data, first,
                           ge_min_size(ENTRIES_MAX, (size_t)(entries - first)),
                           sample->gradient_scale, out);
        }
    FUZZ_CHECK(ge_consumer_data(monitor, sample->replicas, 0) == NULL);
    FUZZ_CHECK(ge_consumer_data(monitor, 0, geometry->layer_count) == NULL);
}

/* What a monitor does with a segment, in any order. */
static void monitor(struct world *w, uint8_t what)
{
    struct ge_handed_sample sample;

    if (w->monitor == NULL)
        return;
    switch (what % 8) {
    case 0:
    case 1:
        if (ge_consumer_peek(w->monitor, &sample) == GRADECHO_OK)
            touch(w->monitor, &sample);
        break;
    case 2:
        ge_consumer_release(w->monitor);
        break;
    case 3:
        ge_consumer_enable(w->monitor, 1 + what / 128);
        ge_consumer_skip_to(w->monitor, w->step + what / 16 % 4);
        break;
    case 4:
        fuzz_any(ge_consumer_intact(w->monitor));
        break;
    case 5:
        fuzz_any(ge_consumer_alive(w->monitor) &&
                 ge_consumer_closed(w->monitor));
        FUZZ_CHECK(ge_consumer_dropped(w->monitor) <= GE_DROPPED_MAX);
        break;
    case 6:
        ge_consumer_wait(w->monitor, 1e-5);
        break;
    default:
        ge_consumer_disable(w->monitor);
        break;
    }
}

static void attach_again(struct world *w)
{
    ge_consumer_detach(&w->monitor);
    if (ge_consumer_attach(NULL, 0, &w->monitor) != GRADECHO_OK) {
        FUZZ_CHECK(w->monitor == NULL);
        FUZZ_CHECK(ge_message_last()[0] != '\0');
    }
}

static void one_step(struct world *w, struct fuzz_bytes *in)
{
    struct ge_segment_info list[2];
    size_t count = 0;
    const uint8_t what = fuzz_u8(in);

    switch (what % 16) {
    case 0:
        attach_again(w);
        break;
    case 1:
    case 2:
        hand_over(w, in);
        break;
    case 3:
    case 4:
        change_field(w, in);
        break;
    case 5:
        change_slot(w, in);
        break;
    case 6:
        change_bytes(w, in);
        break;
    case 7:
        resize(w, in);
        break;
    case 8:
        if (what == 8) /* slow */
            fuzz_any(ge_consumer_scan(NULL, false, list, 2, &count));
        break;
    default:
        monitor(w, fuzz_u8(in));
        break;
    }
}

void fuzz_once(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    struct world w = {.fd = -1};

    begin_world(&w);
    for (int i = 0; i < STEPS_MAX && in.left > 0; i++)
        one_step(&w, &in);
    end_world(&w);
}
