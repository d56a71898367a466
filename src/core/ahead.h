/*
 * ahead.h - a thread that has parts of a mapped file read before they are used.
 *
 * A thread, because the one call that asks for a file's pages without waiting
 * for them (MADV_WILLNEED) makes each a page of its own: on Linux 6.18 that
 * costs 0.2 s for a gigabyte, most of what a disk takes to read it. Large
 * pages come of touching what is missing (MADV_HUGEPAGE), which waits.
 *
 * It takes no signals, calls neither MPI nor HDF5 and touches nothing of the
 * memory itself: a file that is cut off meanwhile is not its concern.
 * Called by one thread.
 */
#ifndef GRADECHO_CORE_AHEAD_H
#define GRADECHO_CORE_AHEAD_H

#include <stdbool.h>
#include <stddef.h>

struct ge_ahead;

/* NULL: no thread is to be had. */
struct ge_ahead *ge_ahead_create(void);
/* What is queued is not read any more. Nulls *ahead; accepts NULL. */
void ge_ahead_destroy(struct ge_ahead **ahead);

/* Queue whole pages. `large`: the system was asked for large pages there
 * (MADV_HUGEPAGE). Never waits for the disk; false if the queue is full. */
bool ge_ahead_push(struct ge_ahead *ahead, void *at, size_t bytes, bool large);

#endif
