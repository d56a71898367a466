/*
 * The trainer's end. A handle keeps private copies of all that it decides by;
 * of the shared memory it reads only the consumer's line, whose values can at
 * worst make it drop samples. A process of the same user that shrinks the file
 * kills the trainer by SIGBUS, as it could by kill(): a library does not
 * install a signal handler into a training to change that (docs/operations.md).
 */
#include "gradecho/handoff.h"

#include "abi.h"
#include "futex.h"
#include "memory.h"
#include "segment.h"
#include "try.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct gradecho {
    struct ge_segment segment;
    struct ge_abi_header *shared; /* == segment.base */
    struct ge_layout layout;
    struct ge_span *spans; /* [layer_count] */
    size_t layer_count;
    uint32_t slots, replicas, mean; /* mean: 1 if there is room for it */
    uint32_t world;
    uint64_t head, dropped; /* what shared->head and ->dropped say */
    bool deserted;          /* the monitor was gone when it seemed busy */
    uint64_t deserted_tail; /* at this tail */
    uint64_t instance;      /* what shared->instance says */
    bool begun;
    int64_t step;     /* of the sample begun */
    int64_t next;     /* step after the last one published */
    uint32_t written; /* replicas present in the sample begun */
    bool averaged;    /* a mean is */
    /* A forked child inherits the handle, but not the segment's name. */
    pid_t owner;
    char path[GE_SEGMENT_PATH_MAX];
};

struct gradecho_options gradecho_options_default(void)
{
    return (struct gradecho_options){.struct_size =
                                         sizeof(struct gradecho_options),
                                     .world = 1,
                                     .slots = 2,
                                     .replicas = 1};
}

static gradecho_status check_options(const struct gradecho_options *options)
{
    gradecho_status status = GRADECHO_OK;
    const gradecho_status bad = GRADECHO_E_ARG;

    GE_FAIL_IF(options == NULL, bad, "options are NULL");
    GE_FAIL_IF(options->struct_size != sizeof *options, bad,
               "options of %zu bytes, where this library has %zu: start from "
               "gradecho_options_default(), and compile with the header of "
               "the library that is linked",
               options->struct_size, sizeof *options);
    GE_FAIL_IF(options->rank >= options->world, bad,
               "rank %u is not below world %u", (unsigned)options->rank,
               (unsigned)options->world);
    GE_FAIL_IF(options->slots < GE_ABI_SLOTS_MIN ||
                   options->slots > GE_ABI_SLOTS_MAX,
               bad, "slots must be %d to %d, not %u", GE_ABI_SLOTS_MIN,
               GE_ABI_SLOTS_MAX, (unsigned)options->slots);
    GE_FAIL_IF(options->replicas < 1 || options->replicas > GE_ABI_REPLICAS_MAX,
               bad, "replicas must be 1 to %d, not %u", GE_ABI_REPLICAS_MAX,
               (unsigned)options->replicas);
    GE_FAIL_IF(options->mean > 1, bad, "mean must be 0 or 1, not %u",
               (unsigned)options->mean);
    GE_FAIL_IF(options->layers == NULL || options->layer_count < 1 ||
                   options->layer_count > GE_ABI_LAYERS_MAX,
               bad, "the layer table must have 1 to %d layers, not %zu",
               GE_ABI_LAYERS_MAX,
               options->layers == NULL ? (size_t)0 : options->layer_count);
    GE_TRY(ge_segment_check_layers(options->layers, options->layer_count, bad));
fail:
    return status;
}

/* Different for each opening, so that a reader can tell a restart. */
static uint64_t draw_instance(void)
{
    uint64_t instance = 0;
    struct timespec now = {0};

    if (getrandom(&instance, sizeof instance, GRND_NONBLOCK) ==
        (ssize_t)sizeof instance)
        return instance;
    clock_gettime(CLOCK_REALTIME, &now);
    return ((uint64_t)now.tv_sec << 32) ^ ((uint64_t)now.tv_nsec << 16) ^
           (uint64_t)getpid();
}

/* Fill the constant part of a zeroed segment; the magic comes last. */
static void write_constants(gradecho *handle,
                            const struct gradecho_options *options)
{
    struct ge_abi_header *to = handle->shared;
    struct ge_abi_layer *table =
        (void *)((unsigned char *)handle->segment.base +
                 handle->layout.layers_offset);

    to->version = GE_ABI_VERSION;
    to->header_bytes = sizeof *to;
    to->total_bytes = handle->layout.total_bytes;
    to->instance = handle->instance = draw_instance();
    to->rank = options->rank;
    to->world = options->world;
    to->slot_count = options->slots;
    to->replicas_max = options->replicas;
    to->mean = options->mean;
    to->layer_count = (uint32_t)options->layer_count;
    to->layer_bytes = sizeof *table;
    to->layers_offset = handle->layout.layers_offset;
    to->slots_offset = handle->layout.slots_offset;
    to->slot_bytes = handle->layout.slot_bytes;
    to->presence_offset = handle->layout.presence_offset;
    to->payload_offset = handle->layout.payload_offset;
    to->replica_bytes = handle->layout.replica_bytes;
    for (size_t l = 0; l < options->layer_count; l++) {
        const struct gradecho_layer *layer = &options->layers[l];

        memcpy(table[l].name, layer->name, strlen(layer->name));
        table[l].rows = layer->rows;
        table[l].cols = layer->cols;
        table[l].offset = handle->spans[l].offset;
        table[l].dtype = (uint32_t)layer->dtype;
    }
    /* Release: who finds the magic finds all of the above. */
    atomic_store_explicit(&to->magic, GE_ABI_MAGIC, memory_order_release);
}

/* Free what a handle, perhaps half-made, holds; not the name. */
static void free_handle(gradecho *handle)
{
    if (handle == NULL)
        return;
    ge_segment_discard(&handle->segment);
    free(handle->spans);
    free(handle);
}

static gradecho_status open_handle(const struct gradecho_options *options,
                                   gradecho **out)
{
    gradecho_status status = GRADECHO_OK;
    gradecho *handle = NULL;

    GE_FAIL_IF(out == NULL, GRADECHO_E_ARG, "the place for the handle is NULL");
    GE_TRY(check_options(options));
    handle = ge_alloc(1, sizeof *handle);
    GE_FAIL_IF(handle == NULL, GRADECHO_E_NOMEM, "no memory for a handle");
    handle->segment.fd = -1;
    handle->owner = getpid();
    handle->slots = options->slots;
    handle->replicas = options->replicas;
    handle->mean = options->mean;
    handle->world = options->world;
    handle->layer_count = options->layer_count;
    handle->spans = ge_alloc(options->layer_count, sizeof *handle->spans);
    GE_FAIL_IF(handle->spans == NULL, GRADECHO_E_NOMEM,
               "no memory for %zu layers", options->layer_count);
    GE_TRY(ge_segment_path(options->session, options->rank, handle->path));
    GE_FAIL_IF(!ge_segment_layout(options->slots,
                                  options->replicas + options->mean,
                                  options->layers, options->layer_count,
                                  handle->spans, &handle->layout),
               GRADECHO_E_ARG, "the layers are too large to address");
    /* A leftover goes first: its memory may be what the new one needs. */
    GE_TRY(ge_segment_clear(handle->path));
    GE_TRY(ge_segment_create(handle->layout.total_bytes, &handle->segment));
    handle->shared = handle->segment.base;
    write_constants(handle, options);
    GE_TRY(ge_segment_publish(handle->segment.fd, handle->path));
    *out = handle;
    return GRADECHO_OK;
fail:
    free_handle(handle);
    return status;
}

gradecho_status gradecho_open(const struct gradecho_options *options,
                              gradecho **handle)
{
    /* The trainer's terminal is not ours. */
    const int before = ge_message_capture(1);
    const gradecho_status status = open_handle(options, handle);

    ge_message_capture(before);
    return status;
}

GE_PRINTF(1, 2)
static gradecho_status refuse(const char *format, ...)
{
    const int before = ge_message_capture(1);
    char text[GE_MESSAGE_MAX];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ge_error("%s", text);
    ge_message_capture(before);
    return GRADECHO_E_ARG;
}

static unsigned char *begun_slot(const gradecho *handle)
{
    return (unsigned char *)handle->segment.base + handle->layout.slots_offset +
           handle->head % handle->slots * handle->layout.slot_bytes;
}

/* The monitor is busy, or seems so: all slots are in use, or it has skipped to
 * a later step. Drops are counted only while somebody takes samples: a monitor
 * that was killed has not reset `attached`, but the kernel has dropped its
 * lock. It is asked for once: the next monitor moves the tail, or skips
 * nothing, before it takes samples. */
static gradecho_status decline(gradecho *handle, uint64_t tail)
{
    if (handle->deserted && handle->deserted_tail == tail)
        return GRADECHO_NOT_WANTED;
    handle->deserted = !ge_segment_locked(handle->segment.fd, GE_LOCK_CONSUMER);
    handle->deserted_tail = tail;
    if (handle->deserted)
        return GRADECHO_NOT_WANTED;
    handle->dropped++;
    /* Relaxed: a number to report, nothing hangs on it. */
    atomic_store_explicit(&handle->shared->dropped, handle->dropped,
                          memory_order_relaxed);
    return GRADECHO_DROPPED;
}

gradecho_status gradecho_begin(gradecho *handle, int64_t step)
{
    uint64_t every = 0, from = 0, tail = 0;

    if (handle == NULL)
        return GRADECHO_NOT_WANTED;
    if (step < 0)
        return refuse("step %lld is negative", (long long)step);
    if (handle->begun)
        return refuse("step %lld is begun before step %lld was published or "
                      "cancelled",
                      (long long)step, (long long)handle->step);
    /* Acquire: pairs with the release in ge_consumer_enable(); who sees
     * attached sees the sample_every and tail that go with it. */
    if (atomic_load_explicit(&handle->shared->attached, memory_order_acquire) ==
        0)
        return GRADECHO_NOT_WANTED;
    every = atomic_load_explicit(&handle->shared->sample_every,
                                 memory_order_relaxed);
    if (every == 0 || (uint64_t)step % every != 0)
        return GRADECHO_NOT_WANTED;
    if (step < handle->next) /* another rank may be at the old one's number */
        return refuse("step %lld comes after step %lld: count on from epoch to "
                      "epoch",
                      (long long)step, (long long)handle->next - 1);
    /* Acquire: pairs with the release in ge_consumer_release(); the monitor's
     * last read of the slot happens before we write to it. */
    tail = atomic_load_explicit(&handle->shared->tail, memory_order_acquire);
    /* Relaxed: who sees it late hands over a sample that nobody measures. */
    from = atomic_load_explicit(&handle->shared->sample_from,
                                memory_order_relaxed);
    if ((uint64_t)step < from) {
        (void)decline(handle, tail);
        return GRADECHO_NOT_WANTED; /* not later, either */
    }
    if (handle->head - tail >= handle->slots)
        return decline(handle, tail);
    handle->deserted = false;
    memset(begun_slot(handle) + handle->layout.presence_offset, 0,
           (handle->replicas + handle->mean) * handle->layer_count);
    handle->begun = true;
    handle->step = step;
    handle->written = 1;
    handle->averaged = false;
    return GRADECHO_OK;
}

/* Marks the layer as present in a block: a replica's, or behind them the
 * mean's. */
static void *place_in(gradecho *handle, uint32_t block, size_t layer)
{
    unsigned char *slot = begun_slot(handle);

    slot[handle->layout.presence_offset + block * handle->layer_count + layer] =
        1;
    return slot + handle->layout.payload_offset +
           block * handle->layout.replica_bytes + handle->spans[layer].offset;
}

void *gradecho_place(gradecho *handle, uint32_t replica, size_t layer)
{
    if (handle == NULL || !handle->begun || replica >= handle->replicas ||
        layer >= handle->layer_count)
        return NULL;
    if (handle->written <= replica)
        handle->written = replica + 1;
    return place_in(handle, replica, layer);
}

void *gradecho_place_mean(gradecho *handle, size_t layer)
{
    if (handle == NULL || !handle->begun || handle->mean == 0 ||
        layer >= handle->layer_count)
        return NULL;
    handle->averaged = true;
    return place_in(handle, handle->replicas, layer);
}

gradecho_status gradecho_write(gradecho *handle, uint32_t replica, size_t layer,
                               const void *data)
{
    void *place = NULL;

    if (handle == NULL)
        return GRADECHO_NOT_WANTED;
    if (data == NULL)
        return refuse("layer %zu: the data are NULL", layer);
    place = gradecho_place(handle, replica, layer);
    if (place == NULL)
        return refuse("replica %u layer %zu: %s", (unsigned)replica, layer,
                      handle->begun ? "there is no such replica or layer"
                                    : "no sample is begun");
    memcpy(place, data, handle->spans[layer].bytes);
    return GRADECHO_OK;
}

gradecho_status gradecho_write_mean(gradecho *handle, size_t layer,
                                    const void *data)
{
    void *place = NULL;

    if (handle == NULL)
        return GRADECHO_NOT_WANTED;
    if (data == NULL)
        return refuse("layer %zu: the mean is NULL", layer);
    place = gradecho_place_mean(handle, layer);
    if (place == NULL)
        return refuse("mean of layer %zu: %s", layer,
                      !handle->begun      ? "no sample is begun"
                      : handle->mean == 0 ? "there is no room: set mean in "
                                            "the options of gradecho_open()"
                                          : "there is no such layer");
    memcpy(place, data, handle->spans[layer].bytes);
    return GRADECHO_OK;
}

gradecho_status gradecho_publish(gradecho *handle,
                                 const struct gradecho_meta *meta)
{
    const struct gradecho_meta unknown = {.loss = (double)NAN,
                                          .gradient_scale = 1.0};
    struct timespec now = {0};
    struct ge_abi_slot *slot = NULL;

    if (handle == NULL)
        return GRADECHO_NOT_WANTED;
    if (!handle->begun)
        return refuse("no sample is begun");
    if (meta == NULL)
        meta = &unknown;
    handle->begun = false;
    if (!(isfinite(meta->gradient_scale) && meta->gradient_scale > 0.0))
        return refuse("step %lld: the gradient scale %g is not finite and "
                      "positive",
                      (long long)handle->step, meta->gradient_scale);
    clock_gettime(CLOCK_REALTIME, &now);
    slot = (void *)begun_slot(handle);
    *slot = (struct ge_abi_slot){.number = handle->head,
                                 .step = handle->step,
                                 .loss = meta->loss,
                                 .batch_size = meta->batch_size,
                                 .gradient_scale = meta->gradient_scale,
                                 .time = (double)now.tv_sec +
                                         (double)now.tv_nsec * 1e-9,
                                 .replicas = handle->written};
    if (handle->averaged) /* what no 32 bits hold, nobody has */
        slot->mean_replicas = handle->written * handle->world;
    slot->check = ge_segment_check(slot, handle->instance);
    handle->next = handle->step < INT64_MAX ? handle->step + 1 : INT64_MAX;
    handle->head++;
    /* Release: pairs with the acquire of head in ge_consumer_peek(). */
    atomic_store_explicit(&handle->shared->head, handle->head,
                          memory_order_release);
    /* Release: a monitor that sees this count in ge_consumer_peek() sees head,
     * so that it never goes to sleep on a count that includes an unseen one. */
    atomic_fetch_add_explicit(&handle->shared->wake, 1, memory_order_release);
    ge_futex_wake(&handle->shared->wake);
    return GRADECHO_OK;
}

void gradecho_cancel(gradecho *handle)
{
    if (handle != NULL)
        handle->begun = false;
}

int gradecho_attached(const gradecho *handle)
{
    /* Relaxed: an answer for people; the lock tells whether it still holds. */
    return handle != NULL &&
           atomic_load_explicit(&handle->shared->attached,
                                memory_order_relaxed) != 0 &&
           ge_segment_locked(handle->segment.fd, GE_LOCK_CONSUMER);
}

uint64_t gradecho_dropped(const gradecho *handle)
{
    return handle != NULL ? handle->dropped : 0;
}

void gradecho_close(gradecho **handle)
{
    gradecho *closing = handle != NULL ? *handle : NULL;

    if (closing == NULL)
        return;
    *handle = NULL;
    if (closing->owner == getpid()) {
        /* Release: pairs with the acquire of closed in ge_consumer_alive();
         * who sees it sees the last head. */
        atomic_store_explicit(&closing->shared->closed, GE_ABI_CLOSED,
                              memory_order_release);
        atomic_fetch_add_explicit(&closing->shared->wake, 1,
                                  memory_order_release);
        ge_futex_wake(&closing->shared->wake);
        /* Before the file is closed, and with it the lock given up. */
        ge_segment_unlink(closing->segment.fd, closing->path);
    }
    free_handle(closing);
}

const char *gradecho_message(void)
{
    return ge_message_last();
}

const char *gradecho_status_text(gradecho_status status)
{
    return ge_status_text(status);
}

const char *gradecho_version(void)
{
    return GRADECHO_VERSION;
}
