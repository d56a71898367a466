/*
 * inject.h - make the n-th call of a class fail, and see what is left behind.
 *
 * libfaults comes before the C library, MPI, HDF5 and LAPACK in the search for
 * symbols (linked first, or preloaded), so that nothing in the program knows of
 * it. It counts, fails and follows only what our own code calls: the caller is
 * the program itself, libgradecho, or, for memory, one of the small libraries
 * that allocate on our behalf (YAML, JSON). The build under test must not make
 * tail calls to be seen in full: -O0, the dev preset.
 *
 * A call that acquires or transfers fails before it is made. One that releases
 * fails after it was made, as close(2) does.
 *
 * A test program calls the functions below. For a whole program, preloaded,
 * the environment speaks:
 *   GRADECHO_FAULT         CLASS:N, the N-th call fails; CLASS:N+, and all that
 *                          follow; "count": none
 *   GRADECHO_FAULT_RANK    only in this MPI rank (all others count)
 *   GRADECHO_FAULT_LIBRARY if set, only what libgradecho calls
 *   GRADECHO_FAULT_REPORT  file to append to: "failed FUNCTION" at each
 *                          failure; at exit "uses CLASS N" and, for each thing
 *                          never given back, "left KIND FUNCTION PLACE". The
 *                          rank, if any, is added to its name.
 */
#ifndef GRADECHO_TESTS_INJECT_H
#define GRADECHO_TESTS_INJECT_H

#include <stdbool.h>
#include <stddef.h>

enum fault_class {
    FAULT_MEMORY,
    FAULT_SYSTEM, /* files, mappings, locks, streams */
    FAULT_HDF5,
    FAULT_MPI,
    FAULT_LAPACK,
    FAULT_CLASSES
};

extern const char *const fault_class_names[FAULT_CLASSES];

/* Forget what was, and start: the n-th use of the class fails, and with
 * `lasting` all that follow; n = 0: none. */
void fault_arm(enum fault_class class, unsigned long n, bool lasting);

/* Stop. \return function and place of the first failure, NULL if none */
const char *fault_disarm(void);

/* Uses of a class since fault_arm(). */
unsigned long fault_uses(enum fault_class class);

/* Did a call of this function fail since fault_arm()? */
bool fault_failed(const char *function);

/* What was acquired since fault_arm() and is held still: one line each, if
 * `fd` is not negative. \return their number */
size_t fault_left(int fd);

#endif
