/*
 * handoff.h - how a training process hands its gradients to gradecho.
 *
 * All that a trainer needs, in C and C++. Link with -lgradecho, which needs
 * neither MPI nor BLAS nor HDF5.
 *
 *     gradecho *watch = NULL;
 *     if (gradecho_open(&options, &watch) != GRADECHO_OK)
 *         fprintf(stderr, "%s\n", gradecho_message());    // and train on
 *     for (each step) {
 *         ... backward ...
 *         if (gradecho_begin(watch, step) == GRADECHO_OK) {
 *             for (each layer l)
 *                 gradecho_write(watch, 0, l, gradient[l]);
 *             gradecho_publish(watch, &meta);
 *         }
 *         ... the training's own allreduce ...
 *     }
 *     gradecho_close(&watch);
 *
 * The trainer never waits for the monitor. After gradecho_open() no function
 * here blocks, allocates, or takes a lock; the only cost of a sample is one
 * copy of the gradient, and none if it is written in place. Every function
 * accepts a NULL handle and then does nothing (gradecho_begin() answers
 * GRADECHO_NOT_WANTED), so that a training can go on without a monitor.
 *
 * Terms. A *rank* is one training process. A *replica* is one independent
 * gradient sample: a rank hands over one or more each step (with gradient
 * accumulation, one for each micro-batch). A *layer* is one named parameter
 * tensor seen as a rows x cols matrix, row-major (a convolution kernel as
 * out_channels x the rest, a bias as 1 x n). A *sample* is one step whose
 * gradients were handed over.
 *
 * Threads: a handle belongs to one thread at a time. Fork: a handle belongs to
 * the process that opened it; in a child (a data loader) gradecho_close() only
 * releases the child's copy. A trainer that dies without gradecho_close()
 * counts as alive until the children that it forked are gone, too.
 */
#ifndef GRADECHO_HANDOFF_H
#define GRADECHO_HANDOFF_H

#include <stddef.h>
#include <stdint.h>

#include "gradecho/status.h"
#include "gradecho/version.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(GRADECHO_BUILD) && defined(__GNUC__)
#define GRADECHO_API __attribute__((visibility("default")))
#else
#define GRADECHO_API
#endif

/* Longest session name and layer name, bytes without the terminator. */
#define GRADECHO_SESSION_MAX 63
#define GRADECHO_NAME_MAX 255

/* Environment variable with the session's name; gradecho-run sets it. */
#define GRADECHO_SESSION_ENV "GRADECHO_SESSION"

/* Storage of gradient entries. Values are part of the shared-memory ABI. */
typedef enum gradecho_dtype {
    GRADECHO_F32 = 1,
    GRADECHO_F64 = 2,
    GRADECHO_F16 = 3, /* IEEE 754 binary16 */
    GRADECHO_BF16 = 4 /* upper half of a binary32 */
} gradecho_dtype;

/* One layer. The name is UTF-8, unique within the table, and copied. */
struct gradecho_layer {
    const char *name;
    uint64_t rows; /* >= 1 */
    uint64_t cols; /* >= 1 */
    gradecho_dtype dtype;
};

/* What gradecho_open() needs. Start from gradecho_options_default(), so that
 * fields added later keep a meaning. */
struct gradecho_options {
    size_t struct_size;  /* sizeof(struct gradecho_options), set by default */
    const char *session; /* NULL: $GRADECHO_SESSION, else "default" */
    uint32_t rank;       /* of this trainer, 0 <= rank < world */
    uint32_t world;      /* trainers in the whole job, >= 1 */
    uint32_t slots;      /* samples that may be in flight, 2 to 64 */
    uint32_t replicas;   /* most replicas in one sample, 1 to 1024 */
    const struct gradecho_layer *layers; /* [layer_count], the same table
                                            in the same order on every rank */
    size_t layer_count;                  /* 1 to 65,536 */
    uint32_t mean; /* 1: room in each sample for the mean over all replicas of
                      all ranks, see gradecho_write_mean(); else 0 */
};

/* What a trainer says about a sample. Unknown: NAN, or 0 for batch_size. */
struct gradecho_meta {
    double loss;           /* mean loss over this rank's examples */
    double batch_size;     /* examples behind ONE replica's gradient */
    double gradient_scale; /* the gradients are multiplied by this (loss
                              scaling); the monitor divides. 1 if unscaled */
};

typedef struct gradecho gradecho;

/* Options with every field at its default (slots 2, replicas 1, world 1). */
GRADECHO_API struct gradecho_options gradecho_options_default(void);

/* Create this rank's segment /dev/shm/gradecho.<session>.<rank>, mode 0600,
 * with all of its memory reserved. A leftover of a dead trainer is replaced.
 * May block briefly on the kernel; call it once, before training.
 *
 * \param options  borrowed for the call
 * \param handle   written on success only; release with gradecho_close()
 * \return GRADECHO_E_ARG      an option out of range, a duplicate layer name
 *         GRADECHO_E_EXISTS   a live trainer already uses this session and rank
 *         GRADECHO_E_NOSPACE  /dev/shm is too small; the message tells needs
 *         GRADECHO_E_NOMEM    the machine has not so much memory left
 *         GRADECHO_E_SYS */
GRADECHO_API GRADECHO_MUST_CHECK gradecho_status
gradecho_open(const struct gradecho_options *options, gradecho **handle);

/* Ask whether to hand over the gradients of `step`; steps must increase.
 * Costs a few loads when the answer is no.
 *
 * \return GRADECHO_OK          wanted: write every layer, then publish
 *         GRADECHO_NOT_WANTED  no monitor is attached, this step is not
 *                              sampled, or the monitors have skipped it
 *                              (counted): do nothing
 *         GRADECHO_DROPPED     all slots are in use: counted, do nothing
 *         GRADECHO_E_ARG       a sample is already begun; or step is negative,
 *                              or not above the last sample's: steps count on
 *                              from epoch to epoch, since the monitors match
 *                              the ranks' samples by them */
GRADECHO_API gradecho_status gradecho_begin(gradecho *handle, int64_t step);

/* Copy one layer's local gradient (before the training's allreduce) into the
 * sample that was begun.
 *
 * \param replica  0 <= replica < options.replicas
 * \param layer    index into the layer table
 * \param data     [rows x cols] row-major, of the layer's dtype
 * \return GRADECHO_E_ARG  no sample begun, data NULL, or an index out of range
 */
GRADECHO_API gradecho_status gradecho_write(gradecho *handle, uint32_t replica,
                                            size_t layer, const void *data);

/* The place of one layer in the sample that was begun, to write in place:
 * [rows x cols] of the layer's dtype, aligned to 64 bytes, valid until
 * gradecho_publish() or gradecho_cancel(). Fetching it counts as writing the
 * layer. NULL if no sample is begun or an index is out of range. */
GRADECHO_API void *gradecho_place(gradecho *handle, uint32_t replica,
                                  size_t layer);

/* Copy one layer's mean over all replicas of all ranks, which the training's
 * own allreduce made of this step's gradients, into the sample that was begun.
 * With the mean of every layer, and `reduce.mean: handoff` in the monitor's
 * configuration, no gradient crosses the network a second time. It is checked:
 * it must be the plain mean, before clipping, multiplied by gradient_scale as
 * the gradients are, and of as many replicas from each rank as this one writes.
 *
 * \param data  [rows x cols] row-major, of the layer's dtype
 * \return GRADECHO_E_ARG  no sample begun, no room (options.mean), data NULL,
 *                         or an index out of range */
GRADECHO_API gradecho_status gradecho_write_mean(gradecho *handle, size_t layer,
                                                 const void *data);

/* The place of one layer's mean, as gradecho_place(). */
GRADECHO_API void *gradecho_place_mean(gradecho *handle, size_t layer);

/* Hand the sample over and wake the monitor. Layers that were not written
 * are reported as missing for that replica.
 *
 * \param meta  borrowed; NULL: all unknown, scale 1
 * \return GRADECHO_E_ARG  no sample begun, or a scale that is not finite
 *                         and positive (the sample is then cancelled) */
GRADECHO_API gradecho_status gradecho_publish(gradecho *handle,
                                              const struct gradecho_meta *meta);

/* Forget the sample that was begun. */
GRADECHO_API void gradecho_cancel(gradecho *handle);

/* 1 while a monitor is attached, else 0. */
GRADECHO_API int gradecho_attached(const gradecho *handle);

/* Samples that this rank left out because the monitor was busy. */
GRADECHO_API uint64_t gradecho_dropped(const gradecho *handle);

/* Say that no more samples will come, remove the segment's name, release all.
 * Nulls *handle; NULL handles are accepted. Never waits for the monitor, which
 * keeps the memory for the samples that it has not read yet. */
GRADECHO_API void gradecho_close(gradecho **handle);

/* One line on why the last call in this thread failed: what, where, what to
 * do. Valid until the thread's next failing call; never NULL. */
GRADECHO_API const char *gradecho_message(void);

/* Short text of a status; "unknown status" for a stranger. Static. */
GRADECHO_API const char *gradecho_status_text(gradecho_status status);

/* GRADECHO_VERSION of the library, for who loads it at run time. Static. */
GRADECHO_API const char *gradecho_version(void);

#ifdef __cplusplus
}
#endif

#endif
