/*
 * mapped.h - a whole file in memory, to be read, guarded against its becoming
 * shorter (guard.h).
 *
 * Opened, closed and given hints by one thread; any thread may read.
 */
#ifndef GRADECHO_CORE_MAPPED_H
#define GRADECHO_CORE_MAPPED_H

#include <stdbool.h>
#include <stddef.h>

struct ge_ahead;

struct ge_mapped {
    unsigned char *base; /* NULL: it is not mapped */
    size_t bytes;
    int guard;
    struct ge_ahead *ahead; /* NULL: nothing was expected yet */
};

#define GE_MAPPED_NONE \
    (struct ge_mapped) \
    {                  \
        .guard = -1    \
    }

/* Map the file behind a descriptor, which is borrowed for the call, as long as
 * it is now. False if the system does not: then it has to be read. */
bool ge_mapped_open(struct ge_mapped *map, int fd);
/* Accepts one that is not open. */
void ge_mapped_close(struct ge_mapped *map);

/* False once what was read was not there: zeros were in its place. */
bool ge_mapped_intact(const struct ge_mapped *map);

/* ---- hints on [at, at + bytes) of the file; may fail, which nobody sees ----
 */

/* What large pages are read and mapped in. A range that is expected or
 * forgotten had best end where one does. */
#define GE_MAPPED_LARGE ((size_t)2 << 20)

/* Megabytes of it will be used at a time: have it in large pages. */
void ge_mapped_enlarge(const struct ge_mapped *map, size_t at, size_t bytes);

/* It is used soon: have it read meanwhile (ahead.h). `large`: it was enlarged.
 * False if too much is waiting to be read already: ask again later. */
bool ge_mapped_expect(struct ge_mapped *map, size_t at, size_t bytes,
                      bool large);

/* Let this process's memory go; the system may keep the pages. */
void ge_mapped_forget(const struct ge_mapped *map, size_t at, size_t bytes);

#endif
