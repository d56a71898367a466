#include "mapped.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ahead.h"
#include "guard.h"
#include "memory.h"

static size_t page_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

bool ge_mapped_open(struct ge_mapped *map, int fd)
{
    struct stat about;
    void *base = MAP_FAILED;
    int guard = -1;

    if (fstat(fd, &about) != 0 || about.st_size <= 0)
        return false;
    base = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED)
        return false;
    guard = ge_guard_add(base, (size_t)about.st_size);
    if (guard < 0) {
        munmap(base, (size_t)about.st_size);
        return false;
    }
    /* Read far ahead of a page that is missing; used once, it may go. */
    (void)madvise(base, (size_t)about.st_size, MADV_SEQUENTIAL);
    *map = (struct ge_mapped){base, (size_t)about.st_size, guard, NULL};
    return true;
}

void ge_mapped_close(struct ge_mapped *map)
{
    ge_ahead_destroy(&map->ahead);
    ge_guard_remove(map->guard);
    if (map->base != NULL)
        munmap(map->base, map->bytes);
    *map = GE_MAPPED_NONE;
}

bool ge_mapped_intact(const struct ge_mapped *map)
{
    return !ge_guard_broken(map->guard);
}

/* In whole pages, of the file alone. False: there is nothing. */
static bool widen(const struct ge_mapped *map, size_t *at, size_t *bytes)
{
    const size_t before = *at % page_size();

    if (map->base == NULL || *at >= map->bytes || *bytes == 0)
        return false;
    *bytes = before + ge_min_size(*bytes, map->bytes - *at);
    *at -= before;
    return true;
}

/* Of the zeros that the guard may have put there, too: that does no harm. */
static void advise(const struct ge_mapped *map, size_t at, size_t bytes,
                   int advice)
{
    if (widen(map, &at, &bytes))
        (void)madvise(map->base + at, bytes, advice);
}

/* With pages of 4 KiB the system's large ones are of GE_MAPPED_LARGE; with
 * larger ones they are up to 512 MiB, and need not be. */
void ge_mapped_enlarge(const struct ge_mapped *map, size_t at, size_t bytes)
{
    if (page_size() == 4096)
        advise(map, at, bytes, MADV_HUGEPAGE);
}

bool ge_mapped_expect(struct ge_mapped *map, size_t at, size_t bytes,
                      bool large)
{
    if (!widen(map, &at, &bytes))
        return true;
    if (map->ahead == NULL)
        map->ahead = ge_ahead_create();
    return map->ahead != NULL &&
           ge_ahead_push(map->ahead, map->base + at, bytes, large);
}

void ge_mapped_forget(const struct ge_mapped *map, size_t at, size_t bytes)
{
    advise(map, at, bytes, MADV_DONTNEED);
}
