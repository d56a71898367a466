/*
 * What of a mapped file of gradients is in memory. A replica's entries are one
 * stream, sample by sample and layer by layer, that lies in pieces in the file.
 * Each replica that is read here has a window into its stream, which moves with
 * what is used; the engine interleaves the replicas, so the windows move side
 * by side.
 */
#include <stdlib.h>

#include "gradients_private.h"
#include "memory.h"

/* What is read ahead: of all replicas together, and of each. A fast disk reads
 * that in some 20 ms, and it is small against the memory of any machine. The
 * least is a piece that the engine uses at a time. */
#define WINDOW ((size_t)64 << 20)
#define WINDOW_MOST ((size_t)16 << 20)
#define WINDOW_LEAST ((size_t)1 << 20)

/* What stays behind, for the engine's second look at a piece. */
#define BEHIND ((size_t)4 << 20)

/* Layers of which so many bytes are read here at a time are had in large pages:
 * of smaller ones these would hold more of what is not wanted yet. */
#define LARGE_LAYER (2 * GE_MAPPED_LARGE)

/* Places in a replica's stream. */
struct cursor {
    uint64_t used;  /* the farthest that was used */
    uint64_t asked; /* up to here it is being read */
    uint64_t again; /* the same, while something is looked at again */
    uint64_t let;   /* up to here it was let go */
};

struct ge_gradients_ahead {
    uint32_t first, count;
    size_t window;
    struct cursor *cursor; /* [count] */
    uint64_t *start;       /* [layers + 1] of each layer in a sample's stream;
                              one that is not mapped has no length there */
};

static bool is_large(const ge_gradients *file, size_t layer)
{
    return ge_gradients_layer_bytes(file, layer) >=
           LARGE_LAYER / file->ahead->count;
}

static void enlarge(const ge_gradients *file)
{
    const uint64_t planes = file->facts.samples * file->facts.replicas;

    for (size_t i = 0; i < file->count; i++)
        if (file->layers[i].place != 0 && is_large(file, i))
            ge_mapped_enlarge(
                &file->map, (size_t)file->layers[i].place,
                (size_t)(planes * ge_gradients_layer_bytes(file, i)));
}

void ge_gradients_follow(ge_gradients *file, uint32_t first, uint32_t count)
{
    struct ge_gradients_ahead *a = NULL;

    ge_gradients_unfollow(file);
    if (file->map.base == NULL || count == 0 || first > file->facts.replicas ||
        count > file->facts.replicas - first)
        return;
    a = file->ahead = ge_alloc(1, sizeof *a);
    if (a == NULL) /* no hints, then */
        return;
    a->first = first;
    a->count = count;
    a->window =
        ge_max_size(ge_min_size(WINDOW / count, WINDOW_MOST), WINDOW_LEAST);
    a->cursor = ge_alloc(count, sizeof *a->cursor);
    a->start = ge_alloc(file->count + 1, sizeof *a->start);
    if (a->cursor == NULL || a->start == NULL) {
        ge_gradients_unfollow(file);
        return;
    }
    for (size_t i = 0; i < file->count; i++)
        a->start[i + 1] = a->start[i] + (file->layers[i].place != 0
                                             ? ge_gradients_layer_bytes(file, i)
                                             : 0);
    enlarge(file);
}

void ge_gradients_unfollow(ge_gradients *file)
{
    if (file->ahead == NULL)
        return;
    free(file->ahead->cursor);
    free(file->ahead->start);
    free(file->ahead);
    file->ahead = NULL;
}

/* ---- along the stream ---- */

/* The layer that has this byte of a sample's stream. */
static size_t layer_at(const ge_gradients *file, uint64_t byte)
{
    const uint64_t *start = file->ahead->start;
    size_t low = 0, high = file->count; /* start[low] <= byte < start[high] */

    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;

        if (start[middle] <= byte)
            low = middle;
        else
            high = middle;
    }
    return low;
}

struct part {
    size_t at, bytes; /* in the file */
    bool large;
};

/* From a place in the stream on, what lies together in the file, up to where a
 * large page ends. */
static struct part part_at(const ge_gradients *file, uint32_t replica,
                           uint64_t place)
{
    const uint64_t *start = file->ahead->start;
    const uint64_t byte = place % start[file->count];
    const size_t layer = layer_at(file, byte);
    struct part part = {.large = is_large(file, layer)};

    if (!ge_gradients_find(file, place / start[file->count], replica, layer,
                           &part.at)) /* never: it has a length */
        return (struct part){.bytes = (size_t)(start[layer + 1] - byte)};
    part.at += (size_t)(byte - start[layer]);
    part.bytes = ge_min_size((size_t)(start[layer + 1] - byte),
                             GE_MAPPED_LARGE - part.at % GE_MAPPED_LARGE);
    return part;
}

/* Have it read up to a place, or as far as that goes: returns how far. */
static uint64_t ask(ge_gradients *file, uint32_t replica, uint64_t place,
                    uint64_t end)
{
    while (place < end) {
        const struct part part = part_at(file, replica, place);

        if (!ge_mapped_expect(&file->map, part.at, part.bytes, part.large))
            break;
        place += part.bytes;
    }
    return place;
}

/* The reverse; a part of which something is kept stays whole. */
static uint64_t let_go(const ge_gradients *file, uint32_t replica,
                       uint64_t place, uint64_t end)
{
    while (place < end) {
        const struct part part = part_at(file, replica, place);

        if (part.bytes > end - place)
            break;
        ge_mapped_forget(&file->map, part.at, part.bytes);
        place += part.bytes;
    }
    return place;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Farther than ever before: on into the next layers and samples. */
static void go_on(ge_gradients *file, uint32_t replica, struct cursor *c,
                  uint64_t begin, uint64_t end)
{
    const struct ge_gradients_ahead *a = file->ahead;
    const uint64_t all = file->facts.samples * a->start[file->count];

    if (c->asked < begin) /* samples were skipped, or the disk is behind */
        c->asked = begin;
    c->used = end;
    c->asked = ask(file, replica, c->asked, least(begin + a->window, all));
    if (end > BEHIND)
        c->let = let_go(file, replica, c->let, end - BEHIND);
}

/* Of a layer that was used before and may be gone: no farther than that. */
static void go_again(ge_gradients *file, uint32_t replica, struct cursor *c,
                     uint64_t begin, uint64_t layer_end)
{
    const size_t window = file->ahead->window;

    if (begin > c->again || c->again - begin > window + GE_MAPPED_LARGE)
        c->again = begin;
    c->again = ask(file, replica, c->again, least(begin + window, layer_end));
}

void ge_gradients_use(ge_gradients *file, uint64_t sample, uint32_t replica,
                      size_t layer, uint64_t first, uint64_t count)
{
    const struct ge_gradients_ahead *a = file->ahead;
    size_t at = 0;

    if (a == NULL || replica < a->first || replica - a->first >= a->count ||
        !ge_gradients_find(file, sample, replica, layer, &at))
        return;
    struct cursor *c = &a->cursor[replica - a->first];
    const uint64_t sample_at = sample * a->start[file->count];
    const uint64_t begin = sample_at + a->start[layer] + first * sizeof(float);

    if (begin >= c->used)
        go_on(file, replica, c, begin, begin + count * sizeof(float));
    else if (c->used - begin > BEHIND)
        go_again(file, replica, c, begin, sample_at + a->start[layer + 1]);
}

void ge_gradients_release(ge_gradients *file, uint64_t sample)
{
    const struct ge_gradients_ahead *a = file->ahead;
    size_t at = 0;

    if (a == NULL)
        return;
    /* What was looked at again, too. */
    for (size_t i = 0; i < file->count; i++)
        if (ge_gradients_find(file, sample, a->first, i, &at))
            ge_mapped_forget(
                &file->map, at,
                (size_t)(a->count * ge_gradients_layer_bytes(file, i)));
    for (uint32_t i = 0; i < a->count; i++)
        a->cursor[i].let = (sample + 1) * a->start[file->count];
}
