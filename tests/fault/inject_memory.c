/*
 * The allocators. The C library's own names for the real ones, because dlsym()
 * itself allocates.
 */
#include "inject_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* NOLINTBEGIN(bugprone-reserved-identifier): these are glibc's names */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
/* NOLINTEND(bugprone-reserved-identifier) */

/* The wrapper's own caller acquires `block`. */
#define KEEP(block, name)                                                     \
    do {                                                                      \
        if ((block) != NULL)                                                  \
            fault_hold(FAULT_MEMORY, FAULT_BLOCK, (uintptr_t)(block), (name), \
                       FAULT_CALLER);                                         \
    } while (0)

#define REFUSE(name)                                         \
    do {                                                     \
        if (fault_due(FAULT_MEMORY, (name), FAULT_CALLER)) { \
            errno = ENOMEM;                                  \
            return NULL;                                     \
        }                                                    \
    } while (0)

FAULT_EXPORT void *malloc(size_t size)
{
    void *block = NULL;

    REFUSE("malloc");
    block = __libc_malloc(size);
    KEEP(block, "malloc");
    return block;
}

FAULT_EXPORT void *calloc(size_t count, size_t size)
{
    void *block = NULL;

    REFUSE("calloc");
    block = __libc_calloc(count, size);
    KEEP(block, "calloc");
    return block;
}

FAULT_EXPORT void *realloc(void *block, size_t size)
{
    void *moved = NULL;

    REFUSE("realloc");
    fault_drop(FAULT_BLOCK, (uintptr_t)block);
    moved = __libc_realloc(block, size);
    KEEP(moved, "realloc");
    return moved;
}

FAULT_EXPORT void *reallocarray(void *block, size_t count, size_t size)
{
    void *moved = NULL;

    REFUSE("reallocarray");
    if (size != 0 && count > SIZE_MAX / size) {
        errno = ENOMEM;
        return NULL;
    }
    fault_drop(FAULT_BLOCK, (uintptr_t)block);
    moved = __libc_realloc(block, count * size);
    KEEP(moved, "reallocarray");
    return moved;
}

FAULT_EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    void *block = NULL;

    REFUSE("aligned_alloc");
    block = __libc_memalign(alignment, size);
    KEEP(block, "aligned_alloc");
    return block;
}

FAULT_EXPORT char *strdup(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = NULL;

    REFUSE("strdup");
    copy = __libc_malloc(bytes);
    if (copy != NULL)
        memcpy(copy, text, bytes);
    KEEP(copy, "strdup");
    return copy;
}

FAULT_EXPORT char *strndup(const char *text, size_t most)
{
    const size_t length = strnlen(text, most);
    char *copy = NULL;

    REFUSE("strndup");
    copy = __libc_malloc(length + 1);
    if (copy != NULL) {
        memcpy(copy, text, length);
        copy[length] = '\0';
    }
    KEEP(copy, "strndup");
    return copy;
}

FAULT_EXPORT int asprintf(char **text, const char *format, ...)
{
    va_list arguments;
    int length = 0;

    if (fault_due(FAULT_MEMORY, "asprintf", FAULT_CALLER)) {
        errno = ENOMEM;
        return -1;
    }
    va_start(arguments, format);
    length = vasprintf(text, format, arguments);
    va_end(arguments);
    if (length >= 0)
        KEEP(*text, "asprintf");
    return length;
}

FAULT_EXPORT void free(void *block)
{
    const int error = errno;

    if (block != NULL)
        fault_drop(FAULT_BLOCK, (uintptr_t)block);
    __libc_free(block);
    errno = error;
}
