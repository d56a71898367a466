#include "mapped.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guard.h"

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
    /* Read far ahead of each page that is missing. */
    (void)madvise(base, (size_t)about.st_size, MADV_SEQUENTIAL);
    *map = (struct ge_mapped){base, (size_t)about.st_size, guard};
    return true;
}

void ge_mapped_close(struct ge_mapped *map)
{
    ge_guard_remove(map->guard);
    if (map->base != NULL)
        munmap(map->base, map->bytes);
    *map = GE_MAPPED_NONE;
}

bool ge_mapped_intact(const struct ge_mapped *map)
{
    return !ge_guard_broken(map->guard);
}

/* Of the zeros that the guard may have put there, too: that does no harm. */
static void advise(const struct ge_mapped *map, size_t at, size_t bytes,
                   int advice)
{
    const size_t before = at % (size_t)sysconf(_SC_PAGESIZE);

    if (map->base != NULL)
        (void)madvise(map->base + at - before, bytes + before, advice);
}

void ge_mapped_expect(const struct ge_mapped *map, size_t at, size_t bytes)
{
    advise(map, at, bytes, MADV_WILLNEED);
}

void ge_mapped_forget(const struct ge_mapped *map, size_t at, size_t bytes)
{
    advise(map, at, bytes, MADV_DONTNEED);
}
