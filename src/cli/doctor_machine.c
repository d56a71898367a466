/*
 * gradecho doctor: cores and the threads that want them; what dead runs left.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"
#include "survey.h"

/* ---- cores ---- */

/* Cores that this process may use: its mask, and the container's quota. */
static double count_cores(void)
{
    cpu_set_t set;
    double cores = 1.0, quota = 0.0, period = 0.0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "r");

    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cores = CPU_COUNT(&set);
    else /* more than the set can hold */
        cores = (double)sysconf(_SC_NPROCESSORS_ONLN);
    if (file != NULL) {
        if (fscanf(file, "%lf %lf", &quota, &period) == 2 && period > 0.0 &&
            quota / period < cores)
            cores = quota / period;
        fclose(file);
    }
    return cores;
}

static void check_processes(struct ge_doctor *d, double cores)
{
    if (d->trainers > cores)
        ge_doctor_say(d, GE_WARNING, "cores",
                      "%g for %u trainers: they, too, wait for each other; the "
                      "monitors take their part on top",
                      cores, d->trainers);
    else
        ge_doctor_say(d, GE_FINE, "cores",
                      "%g for %u trainers and %u monitors, which sleep while "
                      "they wait%s",
                      cores, d->trainers, d->trainers,
                      d->trainers + 1.0 > cores
                          ? "; none is spare: raise sample.every if the "
                            "training slows down"
                          : "");
}

static void check_threads(struct ge_doctor *d, double cores)
{
    static const char *const names[] = {"OPENBLAS_NUM_THREADS",
                                        "OMP_NUM_THREADS", "MKL_NUM_THREADS"};
    const double share = cores >= d->trainers ? cores / d->trainers : 1.0;
    bool any = false, fine = true;

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *text = getenv(names[i]);
        const double threads = text != NULL ? strtod(text, NULL) : 0.0;

        if (!(threads >= 1.0))
            continue;
        any = true;
        if (threads > 1.0 && threads * d->trainers > cores) {
            fine = false;
            ge_doctor_say(d, GE_WARNING, "threads",
                          "%s=%g in each of %u trainers, on %g cores: threads "
                          "that find no core spin; export %s=%d",
                          names[i], threads, d->trainers, cores, names[i],
                          (int)share);
        }
    }
    if (any && fine)
        ge_doctor_say(d, GE_FINE, "threads",
                      "as many as there are cores, or fewer");
    else if (!any && (d->trainers < 2 || cores < 2.0))
        ge_doctor_say(d, GE_FINE, "threads", "left to the libraries");
    else if (!any)
        ge_doctor_say(d, GE_WARNING, "threads",
                      "not set: BLAS and OpenMP take all %g cores in each of "
                      "%u trainers, unless the launcher says otherwise; export "
                      "OMP_NUM_THREADS=%d",
                      cores, d->trainers, (int)share);
}

void ge_doctor_cores(struct ge_doctor *d)
{
    const double cores = count_cores();

    check_processes(d, cores);
    check_threads(d, cores);
}

/* ---- leftovers ---- */

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static void check_dead_trainers(struct ge_doctor *d)
{
    struct ge_survey_dead dead;

    if (ge_survey_dead(d->clean, &dead) < GRADECHO_OK) {
        ge_doctor_say_last(d, "leftovers", "");
        return;
    }
    const double mb = (double)dead.bytes / 1e6;

    if (dead.count == 0)
        ge_doctor_say(d, GE_FINE, "leftovers", "no dead trainer's segment");
    else if (dead.removed == dead.count)
        ge_doctor_say(d, GE_FINE, "leftovers",
                      "removed %zu segment%s of dead trainers (%.1f MB)",
                      dead.count, plural(dead.count), mb);
    else
        ge_doctor_say(d, GE_WARNING, "leftovers",
                      "%zu segment%s of dead trainers, %.1f MB, such as %s: "
                      "gradecho doctor --clean removes them",
                      dead.count - dead.removed,
                      plural(dead.count - dead.removed), mb, dead.example);
}

/* Does a process of which we can see it map `path`? */
static bool is_mapped_by(const char *process, const char *path)
{
    char name[64], line[512];
    bool found = false;
    FILE *maps = NULL;

    snprintf(name, sizeof name, "/proc/%.32s/maps", process);
    maps = fopen(name, "r");
    while (maps != NULL && !found && fgets(line, sizeof line, maps) != NULL)
        found = strstr(line, path) != NULL;
    if (maps != NULL)
        fclose(maps);
    return found;
}

static bool is_mapped(const char *path)
{
    const struct dirent *entry = NULL;
    DIR *processes = opendir("/proc");
    bool found = processes == NULL; /* in doubt it is */

    while (!found && (entry = readdir(processes)) != NULL)
        found = isdigit((unsigned char)entry->d_name[0]) &&
                is_mapped_by(entry->d_name, path);
    if (processes != NULL)
        closedir(processes);
    return found;
}

/* Open MPI's shared memory: of a job that was killed, nobody maps it. */
static void check_dead_jobs(struct ge_doctor *d)
{
    static const char prefix[] = "vader_segment.";
    const struct dirent *entry = NULL;
    DIR *folder = opendir(ge_survey_folder);
    char path[512] = "", example[512] = "";
    double bytes = 0.0;
    size_t count = 0;

    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        struct stat file;

        if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", ge_survey_folder, entry->d_name);
        if (lstat(path, &file) != 0 || file.st_uid != geteuid() ||
            is_mapped(path))
            continue;
        count++;
        bytes += (double)file.st_blocks * 512.0;
        memcpy(example, path, sizeof path);
    }
    if (folder != NULL)
        closedir(folder);
    if (count > 0)
        ge_doctor_say(d, GE_WARNING, "leftovers",
                      "%zu file%s of dead MPI jobs, %.1f MB in %s: rm %s%s",
                      count, plural(count), bytes / 1e6, ge_survey_folder,
                      example, count > 1 ? ", and the others" : "");
}

void ge_doctor_leftovers(struct ge_doctor *d)
{
    check_dead_trainers(d);
    check_dead_jobs(d);
}
