/*
 * mapped.h - a whole file in memory, to be read, guarded against its becoming
 * shorter (guard.h).
 *
 * Opened and closed by one thread; any thread may read.
 */
#ifndef GRADECHO_CORE_MAPPED_H
#define GRADECHO_CORE_MAPPED_H

#include <stdbool.h>
#include <stddef.h>

struct ge_mapped {
    unsigned char *base; /* NULL: it is not mapped */
    size_t bytes;
    int guard;
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

/* Hints on the pages of [at, at + bytes) of the file: have them read, or let
 * this process's memory go (the system may keep the pages). */
void ge_mapped_expect(const struct ge_mapped *map, size_t at, size_t bytes);
void ge_mapped_forget(const struct ge_mapped *map, size_t at, size_t bytes);

#endif
