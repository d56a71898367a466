/*
 * guard.h - a mapped file that shrinks costs its data, not the process.
 *
 * Touching a page that lies beyond the end of a file, or that the disk does not
 * give, is a SIGBUS, and whoever may write a trainer's segment or a file of
 * gradients can cut it off while the monitor reads. A handler,
 * installed when a mapping is added, puts zeros in the place of
 * the whole mapping and marks it as broken; the reader goes on and asks
 * afterwards. A SIGBUS from elsewhere goes to whom it went before.
 *
 * For a process that is ours: a library has no business with the signals of
 * the training it runs in. Add and remove from one thread; any thread may
 * touch the memory.
 */
#ifndef GRADECHO_CORE_GUARD_H
#define GRADECHO_CORE_GUARD_H

#include <stdbool.h>
#include <stddef.h>

enum { GE_GUARD_MAX = 4096 }; /* mappings at a time */

/* Watch over a mapping of whole pages from `base` on.
 *
 * \return a number for the other two, or -1: the table is full, or there is no
 *         handler to be had */
int ge_guard_add(void *base, size_t bytes);

/* True if the file did not hold what was read: it is zeros from then on. */
bool ge_guard_broken(int number);

/* Before munmap(). Accepts -1. */
void ge_guard_remove(int number);

#endif
