/*
 * abi.h - the bytes that a trainer and a monitor share.
 *
 *     header | layer table | slot 0 | slot 1 | ...
 *     slot   = slot header | presence [block][layer] | payload
 *     payload = replica block 0 | replica block 1 | ... | the mean's, if any
 *     replica block = layer 0 | layer 1 | ...   (each 64-byte aligned)
 *
 * Any change of a size, offset, meaning or memory order bumps GE_ABI_VERSION.
 * magic, version and header_bytes keep their offsets forever, so that every
 * build can refuse every other build's segment and say why. Fixed-width types
 * only. All offsets and strides follow from the counts and the layer table
 * (ge_segment_layout()); the header repeats them so that a reader of another
 * make need not know the rule, and a reader of ours checks them against it.
 *
 * The slots are a single-producer single-consumer ring. head and tail count
 * samples since the segment was made and never wrap; sample n lies in slot
 * n % slot_count. Slots in [tail, head) belong to the consumer, the others to
 * the producer. Each 64-byte line has one writer.
 *
 * Liveness is told by open-file-description locks, which the kernel drops
 * however a process ends: a write lock on byte GE_LOCK_PRODUCER or
 * GE_LOCK_CONSUMER of the file is held as long as that side lives.
 */
#ifndef GRADECHO_HANDOFF_ABI_H
#define GRADECHO_HANDOFF_ABI_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "gradecho/handoff.h"

#define GE_ABI_MAGIC UINT64_C(0x4f48434544415247) /* "GRADECHO" */
#define GE_ABI_VERSION UINT32_C(4)
#define GE_ABI_LINE 64
/* What header.closed says at the end. Not 1: a stray byte must not end the
 * measurement of all the others, whose training would seem to be over. */
#define GE_ABI_CLOSED UINT32_C(0x444e4521)

enum {
    GE_LOCK_PRODUCER = 0,
    GE_LOCK_CONSUMER = 1,
    GE_ABI_SLOTS_MIN = 2,
    GE_ABI_SLOTS_MAX = 64,
    GE_ABI_REPLICAS_MAX = 1024,
    GE_ABI_LAYERS_MAX = 65536
};

/* The padding keeps each line to its writer.
 * NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding) */
struct ge_abi_header {
    /* Lines 0 and 1: constant once the file has a name. magic is stored last;
     * 0 means that it never got that far. */
    _Alignas(GE_ABI_LINE) _Atomic uint64_t magic;
    uint32_t version;
    uint32_t header_bytes; /* of this struct */
    uint64_t total_bytes;  /* of the file */
    uint64_t instance;     /* random for each gradecho_open() */
    uint32_t rank, world;
    uint32_t slot_count;
    uint32_t replicas_max;
    uint32_t layer_count;
    uint32_t layer_bytes;     /* stride of the layer table */
    uint64_t layers_offset;   /* of the layer table in the file */
    uint64_t slots_offset;    /* of slot 0 in the file */
    uint64_t slot_bytes;      /* stride of the slots */
    uint64_t presence_offset; /* in a slot */
    uint64_t payload_offset;  /* in a slot */
    uint64_t replica_bytes;   /* stride of the replica blocks */
    uint32_t mean;            /* 1: a block for the mean behind the replicas' */
    uint32_t reserved_mean;   /* 0 */
    uint64_t reserved[2];     /* 0 */

    /* Line 2: written by the producer alone. */
    _Alignas(GE_ABI_LINE) _Atomic uint64_t head; /* samples published */
    _Atomic uint64_t dropped; /* samples left out: all slots were in use, or
                                 the step was below sample_from */
    _Atomic uint32_t wake;    /* futex word, bumped at publish and close */
    _Atomic uint32_t closed;  /* GE_ABI_CLOSED: no more samples; else 0 */

    /* Line 3: written by the consumer alone. */
    _Alignas(GE_ABI_LINE) _Atomic uint64_t tail; /* samples taken */
    _Atomic uint64_t sample_every; /* want steps that are a multiple of it */
    _Atomic uint64_t sample_from;  /* and not below this */
    _Atomic uint32_t attached;     /* 1: samples are wanted */
    uint32_t reserved_consumer;    /* 0 */
};

struct ge_abi_layer {
    char name[GRADECHO_NAME_MAX + 1]; /* UTF-8, zero-padded */
    uint64_t rows, cols;
    uint64_t offset; /* in a replica block */
    uint32_t dtype;  /* gradecho_dtype */
    uint32_t reserved[9];
};

struct ge_abi_slot {
    uint64_t number; /* n of this sample: head when it was begun */
    int64_t step;
    double loss, batch_size, gradient_scale; /* struct gradecho_meta */
    double time;                             /* Unix seconds at publish */
    uint32_t replicas;                       /* present: 1 .. replicas_max */
    uint32_t mean_replicas;                  /* that the mean handed over is of,
                                                over all ranks; 0: there is none */
    /* ge_segment_check() of all of the above. A step that a stray write has
     * made large would have all ranks discard what comes before it. */
    uint64_t check;
};

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_LONG_LOCK_FREE == 2 &&
                   ATOMIC_INT_LOCK_FREE == 2,
               "atomics shared by two processes must be lock-free");
_Static_assert(sizeof(_Atomic uint64_t) == 8 && sizeof(_Atomic uint32_t) == 4,
               "no hidden lock word");
_Static_assert(sizeof(double) == 8, "binary64");

#define GE_ABI_AT(type, field, at) \
    _Static_assert(offsetof(struct type, field) == (at), "ABI version 4")

GE_ABI_AT(ge_abi_header, magic, 0);         /* for ever */
GE_ABI_AT(ge_abi_header, version, 8);       /* for ever */
GE_ABI_AT(ge_abi_header, header_bytes, 12); /* for ever */
GE_ABI_AT(ge_abi_header, total_bytes, 16);
GE_ABI_AT(ge_abi_header, instance, 24);
GE_ABI_AT(ge_abi_header, rank, 32);
GE_ABI_AT(ge_abi_header, world, 36);
GE_ABI_AT(ge_abi_header, slot_count, 40);
GE_ABI_AT(ge_abi_header, replicas_max, 44);
GE_ABI_AT(ge_abi_header, layer_count, 48);
GE_ABI_AT(ge_abi_header, layer_bytes, 52);
GE_ABI_AT(ge_abi_header, layers_offset, 56);
GE_ABI_AT(ge_abi_header, slots_offset, 64);
GE_ABI_AT(ge_abi_header, slot_bytes, 72);
GE_ABI_AT(ge_abi_header, presence_offset, 80);
GE_ABI_AT(ge_abi_header, payload_offset, 88);
GE_ABI_AT(ge_abi_header, replica_bytes, 96);
GE_ABI_AT(ge_abi_header, mean, 104);
GE_ABI_AT(ge_abi_header, reserved_mean, 108);
GE_ABI_AT(ge_abi_header, reserved, 112);
GE_ABI_AT(ge_abi_header, head, 128);
GE_ABI_AT(ge_abi_header, dropped, 136);
GE_ABI_AT(ge_abi_header, wake, 144);
GE_ABI_AT(ge_abi_header, closed, 148);
GE_ABI_AT(ge_abi_header, tail, 192);
GE_ABI_AT(ge_abi_header, sample_every, 200);
GE_ABI_AT(ge_abi_header, sample_from, 208);
GE_ABI_AT(ge_abi_header, attached, 216);
GE_ABI_AT(ge_abi_header, reserved_consumer, 220);
_Static_assert(sizeof(struct ge_abi_header) == 256, "ABI version 4");

GE_ABI_AT(ge_abi_layer, name, 0);
GE_ABI_AT(ge_abi_layer, rows, 256);
GE_ABI_AT(ge_abi_layer, cols, 264);
GE_ABI_AT(ge_abi_layer, offset, 272);
GE_ABI_AT(ge_abi_layer, dtype, 280);
GE_ABI_AT(ge_abi_layer, reserved, 284);
_Static_assert(sizeof(struct ge_abi_layer) == 320, "ABI version 4");

GE_ABI_AT(ge_abi_slot, number, 0);
GE_ABI_AT(ge_abi_slot, step, 8);
GE_ABI_AT(ge_abi_slot, loss, 16);
GE_ABI_AT(ge_abi_slot, batch_size, 24);
GE_ABI_AT(ge_abi_slot, gradient_scale, 32);
GE_ABI_AT(ge_abi_slot, time, 40);
GE_ABI_AT(ge_abi_slot, replicas, 48);
GE_ABI_AT(ge_abi_slot, mean_replicas, 52);
GE_ABI_AT(ge_abi_slot, check, 56);
_Static_assert(sizeof(struct ge_abi_slot) == 64, "ABI version 4");

#undef GE_ABI_AT

#endif
