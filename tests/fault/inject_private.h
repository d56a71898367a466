/*
 * inject_private.h - how a function is put in the way of the real one.
 *
 * Each macro defines one function of the name and prototype that the program
 * imports.
 */
#ifndef GRADECHO_TESTS_INJECT_PRIVATE_H
#define GRADECHO_TESTS_INJECT_PRIVATE_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>

#include "inject.h"

#define FAULT_EXPORT __attribute__((visibility("default")))
#define FAULT_CALLER __builtin_return_address(0)

enum fault_kind {
    FAULT_NOTHING,
    FAULT_BLOCK, /* of memory */
    FAULT_FILE,  /* descriptor */
    FAULT_MAPPING,
    FAULT_STREAM,
    FAULT_FOLDER,
    FAULT_ID, /* of HDF5 */
    FAULT_COMMUNICATOR,
    FAULT_REQUEST,
    FAULT_KINDS
};

/* Put the next definition of `name` into the function pointer at `function`,
 * unless it is there. */
void fault_resolve(void *function, const char *name);

/* Count this call; true if it is to fail. */
bool fault_due(enum fault_class class, const char *name, const void *caller);

/* Our code acquired, or anybody released, a thing. */
void fault_hold(enum fault_class class, enum fault_kind kind, uintptr_t thing,
                const char *name, const void *caller);
void fault_drop(enum fault_kind kind, uintptr_t thing);

/* What open() and its like find behind their flags, if anything is there. */
static inline mode_t fault_mode(int flags, va_list arguments)
{
    return (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
}

/* A call that leaves nothing behind. */
#define FAULT_CALL(class, type, name, params, args, failure, error) \
    FAULT_EXPORT type name params                                   \
    {                                                               \
        static type(*real) params;                                  \
                                                                    \
        fault_resolve(&real, #name);                                \
        if (fault_due(class, #name, FAULT_CALLER)) {                \
            errno = (error);                                        \
            return failure;                                         \
        }                                                           \
        return real args;                                           \
    }

/* A call whose result `made` is a thing to be given back, if `good`. */
#define FAULT_ACQUIRE(class, kind, type, name, params, args, failure, error, \
                      good)                                                  \
    FAULT_EXPORT type name params                                            \
    {                                                                        \
        static type(*real) params;                                           \
        type made;                                                           \
                                                                             \
        fault_resolve(&real, #name);                                         \
        if (fault_due(class, #name, FAULT_CALLER)) {                         \
            errno = (error);                                                 \
            return failure;                                                  \
        }                                                                    \
        made = real args;                                                    \
        if (good)                                                            \
            fault_hold(class, kind, (uintptr_t)made, #name, FAULT_CALLER);   \
        return made;                                                         \
    }

/* A call that gives `thing` back. */
#define FAULT_RELEASE(class, kind, type, name, params, args, thing, failure, \
                      error)                                                 \
    FAULT_EXPORT type name params                                            \
    {                                                                        \
        static type(*real) params;                                           \
        type done;                                                           \
                                                                             \
        fault_resolve(&real, #name);                                         \
        fault_drop(kind, (uintptr_t)(thing));                                \
        done = real args;                                                    \
        if (fault_due(class, #name, FAULT_CALLER)) {                         \
            errno = (error);                                                 \
            return failure;                                                  \
        }                                                                    \
        return done;                                                         \
    }

#endif
