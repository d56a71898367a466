/*
 * doctor.h - what the files of `gradecho doctor` share. Each check looks at one
 * thing, and says in one line what it found and what to do.
 */
#ifndef GRADECHO_CLI_DOCTOR_H
#define GRADECHO_CLI_DOCTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "gradecho/handoff.h"
#include "message.h"

/* The one argument of a process that ge_doctor_job() starts. */
#define GE_DOCTOR_MONITOR "--be-a-monitor"

enum ge_finding { GE_FINE, GE_WARNING, GE_PROBLEM, GE_FINDINGS };

struct ge_doctor {
    uint32_t trainers;   /* on this host, with one monitor each */
    uint64_t parameters; /* of the model; 0: not told */
    gradecho_dtype dtype;
    const char *dtype_name;
    uint32_t slots, replicas;
    const char *log; /* its path */
    bool clean;      /* remove leftovers of dead trainers */
    bool colour;
    unsigned found[GE_FINDINGS];
};

/* One line on standard output. */
void ge_doctor_say(struct ge_doctor *doctor, enum ge_finding finding,
                   const char *what, const char *format, ...) GE_PRINTF(4, 5);

/* A failure that the code called told under ge_message_capture(1). */
void ge_doctor_say_last(struct ge_doctor *doctor, const char *what,
                        const char *advice);

/* Room for the segments, and for all else that the run keeps in memory. */
void ge_doctor_memory(struct ge_doctor *doctor);

/* Cores, and threads that want them. */
void ge_doctor_cores(struct ge_doctor *doctor);

/* What dead runs left in shared memory. */
void ge_doctor_leftovers(struct ge_doctor *doctor);

/* Does mpirun start monitors? `self` is the path of this program. */
void ge_doctor_job(struct ge_doctor *doctor, const char *self);

/* What a process that ge_doctor_job() started does. \return its exit code */
int ge_doctor_be_a_monitor(int argc, char **argv);

/* Does a log work where it is meant to go? */
void ge_doctor_log(struct ge_doctor *doctor);

#endif
