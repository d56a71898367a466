/*
 * futex.h - sleep until another thread, or another process that maps the same
 * memory, changes a word.
 *
 * The one who changes the word stores it (release) and then wakes; the one who
 * waits loads it (acquire), and waits on the value that it saw: a change in
 * between ends the wait at once. Any thread.
 */
#ifndef GRADECHO_CORE_FUTEX_H
#define GRADECHO_CORE_FUTEX_H

#include <stdatomic.h>
#include <stdint.h>

/* Wake all who wait for this word. */
void ge_futex_wake(_Atomic uint32_t *word);

/* Sleep while *word == seen, at most so long; a signal ends it, too. */
void ge_futex_wait(_Atomic uint32_t *word, uint32_t seen, double seconds);

#endif
