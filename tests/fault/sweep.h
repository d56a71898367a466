/*
 * sweep.h - what a scenario is, and what is expected of a failed one.
 *
 * A scenario does its work in this process, as often as there are calls that
 * can fail in it. All ranks run it together; the fault is on one of them.
 */
#ifndef GRADECHO_TESTS_SWEEP_H
#define GRADECHO_TESTS_SWEEP_H

#include <stdio.h>

#include "comm.h"
#include "inject.h"

enum { SAMPLES = 3, PATH = 256 };

struct sweep {
    ge_comm *comm;
    int rank, size;
    char session[64];
    char folder[PATH];                  /* scratch, of this rank */
    char log[PATH];                     /* what replay and monitor write */
    char reference[PATH];               /* what they write without a fault */
    char gradients[PATH], config[PATH]; /* inputs */
    char exported[PATH];                /* what the exporter writes */
    int to_trainer, from_trainer;
};

struct scenario {
    const char *name;
    bool collective; /* else rank 0 alone is enough */
    /* Not under a fault: before and after each run. */
    void (*before)(struct sweep *sweep);
    void (*after)(struct sweep *sweep);
    /* The work. \return the program's exit code */
    int (*run)(struct sweep *sweep);
    /* Classes of which this scenario has uses. */
    bool uses[FAULT_CLASSES];
};

extern const struct scenario scenarios[];
extern const size_t scenario_count;

/* Start this rank's trainer process, before MPI starts. */
void trainer_start(struct sweep *sweep, uint32_t rank, uint32_t world);

/* Make the inputs; false, told, if that fails. */
bool scenarios_prepare(struct sweep *sweep);

/* A log, held against the reference. */
enum log_state {
    LOG_NONE,
    LOG_WHOLE,
    LOG_PART,    /* every row is as it should be, some are missing */
    LOG_DIFFERS, /* a row is not */
    LOG_UNREADABLE
};
enum log_state log_look(const struct sweep *sweep);

#endif
