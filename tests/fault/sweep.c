/*
 * sweep - fail every call of a class once, in this process, and judge.
 *
 *     sweep [--stride S] [--lasting] [SCENARIO [CLASS [N]]]
 *     mpirun -n 2 sweep ...
 *
 * For each scenario and class: a run without a fault counts the uses; then the
 * n-th use fails, n = 1, 1 + S, ..., until no use is left. With --lasting all
 * later uses fail, too. With more than one rank the fault is on one of them,
 * on the first and then on the last; class mpi, which ends the job, is left to
 * the sweep over processes. What is expected:
 *   - exit code 0, 1 or 2, the same on all ranks, within seconds;
 *   - not 0: one line says why, over all ranks; 0: none, and the log is equal
 *     to that of a run without a fault, or what is missing was told;
 *   - nothing acquired is held still: memory, descriptors, mappings, streams,
 *     HDF5's identifiers, MPI's requests and communicators;
 *   - no file left over, beside the log or in /dev/shm;
 *   - the log, if there is one, can be read, and no row in it is wrong.
 */
#include "sweep.h"

#include <dirent.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "message.h"
#include "temp_name.h"

enum { DEADLINE = 30, SAID_MAX = 1 << 16 };

/* The terminal; what the program prints and says is caught. */
static FILE *terminal;
static int printed, caught;

struct point {
    const struct scenario *scenario;
    enum fault_class class;
    int victim;
    unsigned long n;
    bool lasting;
};

struct outcome {
    int code;
    const char *failed; /* first call that failed here; NULL: none */
    size_t errors, warnings, left;
    char said[SAID_MAX], printed[SAID_MAX];
};

static struct point current; /* for the alarm */
static char usual[SAID_MAX]; /* what is printed without a fault */

static struct totals {
    unsigned long points, harmless, refused, bad;
} totals;

static void name_point(const struct point *p)
{
    fprintf(terminal, "%s %s %lu%s, rank %d", p->scenario->name,
            fault_class_names[p->class], p->n, p->lasting ? "+" : "",
            p->victim);
}

static void on_alarm(int number)
{
    (void)number;
    name_point(&current);
    fprintf(terminal, ": does not end\n");
    _exit(3);
}

static void blame(const struct point *p, const struct outcome *o,
                  const char *why)
{
    name_point(p);
    fprintf(terminal, " (%s): %s; exit code %d, said:\n%s",
            o->failed != NULL ? o->failed : "no fault", why, o->code, o->said);
    fault_left(fileno(terminal));
    totals.bad++;
}

/* ---- one run ---- */

static size_t count_lines(const char *text, const char *with)
{
    size_t count = 0;

    for (; (text = strstr(text, with)) != NULL; text++)
        count++;
    return count;
}

static void clear(int fd)
{
    if (ftruncate(fd, 0) != 0 || lseek(fd, 0, SEEK_SET) != 0)
        abort();
}

static void take(int fd, char text[SAID_MAX])
{
    const ssize_t length = pread(fd, text, SAID_MAX - 1, 0);

    text[length > 0 ? length : 0] = '\0';
}

static void run_point(struct sweep *sweep, const struct point *p,
                      struct outcome *o)
{
    const bool mine = p->victim == sweep->rank;

    current = *p;
    if (p->scenario->before != NULL)
        p->scenario->before(sweep);
    clear(printed);
    clear(caught);
    alarm(DEADLINE);
    fault_arm(p->class, mine ? p->n : 0, p->lasting);
    o->code = p->scenario->run(sweep);
    o->failed = fault_disarm();
    alarm(0);
    ge_message_capture(0);
    o->left = fault_left(-1);
    fflush(stdout);
    clearerr(stdout);
    take(printed, o->printed);
    take(caught, o->said);
    o->errors = count_lines(o->said, "error: ");
    o->warnings = count_lines(o->said, "warning: ");
    if (p->scenario->after != NULL)
        p->scenario->after(sweep);
}

/* ---- judging ---- */

/* Files of this sweep that should not be there: removed and counted. */
static size_t sweep_folder(const char *folder, const char *prefix,
                           const char *const *expected)
{
    DIR *list = opendir(folder);
    struct dirent *entry = NULL;
    size_t count = 0;

    while (list != NULL && (entry = readdir(list)) != NULL) {
        char path[2 * PATH + 2];
        bool known = entry->d_name[0] == '.' ||
                     strncmp(entry->d_name, prefix, strlen(prefix)) != 0;

        for (size_t i = 0; expected[i] != NULL; i++)
            known = known || strcmp(entry->d_name, expected[i]) == 0;
        if (known)
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        unlink(path);
        count++;
    }
    if (list != NULL)
        closedir(list);
    return count;
}

static size_t sweep_names(const struct sweep *sweep)
{
    static const char *const files[] = {"log.h5",       "reference.h5",
                                        "gradients.h5", "config.yaml",
                                        "last.prom",    NULL};
    static const char *const none[] = {NULL};
    char prefix[PATH];

    if (sweep->size > 1) /* another rank's trainer may be in the next round */
        snprintf(prefix, sizeof prefix, "gradecho.%s.%d", sweep->session,
                 sweep->rank);
    else
        snprintf(prefix, sizeof prefix, "gradecho.%s.", sweep->session);
    return sweep_folder(sweep->folder, "", files) +
           sweep_folder("/dev/shm", prefix, none);
}

/* One line says why it failed. A log that did not take a row says so at once
 * and counts at the end what it lost. */
static bool told_once(const struct point *p, size_t errors, const char *said)
{
    const size_t summaries = count_lines(said, "could not be written");

    if (p->lasting)
        return errors > 0; /* each failure is one */
    return errors == 1 || (summaries == 1 && errors == 2);
}

/* Was it a call that gives something back? */
static bool gives_back(const struct outcome *o)
{
    return o->failed != NULL && strstr(o->failed, "close ") != NULL;
}

/* Why the outcome is not as it should be; NULL if it is. */
static const char *find_fault(const struct sweep *sweep, const struct point *p,
                              const struct outcome *o, size_t errors,
                              size_t names)
{
    const bool root = sweep->rank == 0, collective = p->scenario->collective;
    const enum log_state log = root && collective ? log_look(sweep) : LOG_NONE;
    const bool quiet = errors + o->warnings == 0;
    /* Where a call failed that gives something back, to say so is enough. */
    const size_t idle = gives_back(o) ? (p->lasting ? SIZE_MAX : 1) : 0;

    if (o->code < 0 || o->code > 2)
        return "no such exit code";
    if (o->left > 0)
        return "something is left";
    /* A file that cannot be told to be ours is not removed. */
    if (names > 0 && !fault_failed("unlink") && !fault_failed("fstat") &&
        !fault_failed("lstat"))
        return "a name is left";
    if (log == LOG_UNREADABLE)
        return "the log cannot be read";
    /* A trainer that could not be read on, or a decomposition: told. */
    if (log == LOG_DIFFERS && o->warnings == 0 && p->class != FAULT_LAPACK)
        return "a row of the log is wrong";
    if (!root)
        return NULL; /* the rest is the same everywhere */
    if (o->code != 0 && !told_once(p, errors, o->said))
        return "not exactly one error is told";
    if (o->code != 0 && p->class == FAULT_MEMORY && p->victim == 0 &&
        (o->code != 1 || strstr(o->said, "memory") == NULL))
        return "short memory is not what is told";
    if (o->code == 0 && collective && quiet && log != LOG_WHOLE)
        return "the log is not complete, and nobody says so";
    if (o->code == 0 && log == LOG_WHOLE && errors > idle)
        return "an error is told, but nothing is missing";
    if (o->code == 0 && !collective &&
        (errors > idle || strcmp(o->printed, usual) != 0))
        return "something else is printed than without a fault";
    return NULL;
}

static void judge(struct sweep *sweep, const struct point *p,
                  const struct outcome *o, size_t errors)
{
    const char *fault = find_fault(sweep, p, o, errors, sweep_names(sweep));

    totals.points++;
    if (o->code == 0)
        totals.harmless++;
    else
        totals.refused++;
    if (fault != NULL)
        blame(p, o, fault);
}

/* ---- the sweep ---- */

/* True if the fault was reached. */
static bool try_point(struct sweep *sweep, const struct point *p)
{
    static struct outcome o;
    int64_t word[4] = {0};
    size_t errors = 0;

    run_point(sweep, p, &o);
    errors = o.errors;
    if (sweep->size > 1) {
        double sums[2] = {(double)o.errors, (double)o.warnings};

        word[0] = o.code;
        word[1] = -o.code;
        word[2] = o.failed != NULL;
        if (ge_comm_max(sweep->comm, word, 4) < GRADECHO_OK ||
            ge_comm_sum(sweep->comm, sums, 2) < GRADECHO_OK)
            ge_comm_abort(sweep->comm, 1);
        errors = (size_t)sums[0];
        o.warnings = (size_t)sums[1];
        if (word[0] != -word[1])
            blame(p, &o, "other ranks end by other exit codes");
    } else {
        word[2] = o.failed != NULL;
    }
    if (p->n > 0 && word[2] == 0)
        return false; /* no such use */
    judge(sweep, p, &o, errors);
    return true;
}

/* What a run without a fault prints and logs. */
static void make_reference(struct sweep *sweep, const struct point *p)
{
    static struct outcome o;

    run_point(sweep, p, &o);
    memcpy(usual, o.printed, sizeof usual);
    if (!p->scenario->collective)
        return;
    if (sweep->rank == 0 && rename(sweep->log, sweep->reference) != 0)
        blame(p, &o, "no log");
}

static void sweep_class(struct sweep *sweep, struct point p,
                        unsigned long stride, unsigned long only)
{
    const struct totals before = totals;
    int64_t uses = 0;

    p.n = 0; /* the first run also makes HDF5 and MPI allocate what stays */
    make_reference(sweep, &p);
    try_point(sweep, &p);
    uses = sweep->rank == p.victim ? (int64_t)fault_uses(p.class) : 0;
    if (ge_comm_max(sweep->comm, &uses, 1) < GRADECHO_OK)
        ge_comm_abort(sweep->comm, 1);
    for (p.n = only > 0 ? only : 1; try_point(sweep, &p) && only == 0;)
        p.n += stride;
    if (sweep->rank == 0)
        fprintf(terminal,
                "%-16s %-7s%c rank %d: %4lld uses, %4lu points, %4lu "
                "harmless, %4lu refused, %lu bad\n",
                p.scenario->name, fault_class_names[p.class],
                p.lasting ? '+' : ' ', p.victim, (long long)uses,
                totals.points - before.points - 1,
                totals.harmless - before.harmless - 1,
                totals.refused - before.refused, totals.bad - before.bad);
}

static void sweep_all(struct sweep *sweep, int argc, char **argv)
{
    unsigned long stride = 1, only = 0;
    const char *scenario = NULL, *class = NULL;
    bool lasting = false;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--lasting") == 0)
            lasting = true;
        else if (strcmp(argv[i], "--stride") == 0 && i + 1 < argc)
            stride = strtoul(argv[++i], NULL, 10);
        else if (scenario == NULL)
            scenario = argv[i];
        else if (class == NULL)
            class = argv[i];
        else
            only = strtoul(argv[i], NULL, 10);
    }
    make_reference(sweep, &(struct point){.scenario = &scenarios[0]});
    for (size_t s = 0; s < scenario_count; s++) {
        if ((sweep->size > 1 && !scenarios[s].collective) ||
            (scenario != NULL && strcmp(scenario, scenarios[s].name) != 0))
            continue;
        for (int c = 0; c < FAULT_CLASSES; c++) {
            struct point p = {.scenario = &scenarios[s],
                              .class = (enum fault_class)c,
                              .lasting = lasting};

            if (!scenarios[s].uses[c] ||
                (class != NULL && strcmp(class, fault_class_names[c]) != 0) ||
                (c == FAULT_MPI && sweep->size > 1))
                continue;
            for (p.victim = 0; p.victim<sweep->size; p.victim += sweep->size> 1
                                   ? sweep->size - 1
                                   : 1)
                sweep_class(sweep, p, stride > 0 ? stride : 1, only);
        }
    }
}

/* Rank and size before MPI starts, for the trainers. */
static uint32_t from_launcher(const char *name, uint32_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL ? (uint32_t)strtoul(text, NULL, 10) : otherwise;
}

static void set_up(struct sweep *sweep)
{
    const uint32_t rank = from_launcher("OMPI_COMM_WORLD_RANK", 0);
    const struct sigaction action = {.sa_handler = on_alarm};

    snprintf(sweep->session, sizeof sweep->session, "fault.%ld",
             (long)getppid()); /* the same on all ranks of a node */
    temp_name(sweep->folder, sizeof sweep->folder, "fault");
    if (mkdtemp(sweep->folder) == NULL)
        abort();
#define PLACE(field, name) \
    snprintf(sweep->field, PATH, "%.200s/" name, sweep->folder)
    PLACE(log, "log.h5");
    PLACE(reference, "reference.h5");
    PLACE(gradients, "gradients.h5");
    PLACE(config, "config.yaml");
    PLACE(exported, "last.prom");
#undef PLACE
    trainer_start(sweep, rank, from_launcher("OMPI_COMM_WORLD_SIZE", 1));

    terminal = fdopen(dup(STDERR_FILENO), "w");
    caught = open(sweep->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    printed = open(sweep->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (terminal == NULL || caught < 0 || printed < 0 ||
        dup2(caught, STDERR_FILENO) < 0 || dup2(printed, STDOUT_FILENO) < 0)
        abort();
    setvbuf(terminal, NULL, _IOLBF, 0);
    sigaction(SIGALRM, &action, NULL);
}

/* A fault that is not injected would find nothing: prove that it is. */
static void check_injection(void)
{
    void *block = NULL;

    fault_arm(FAULT_MEMORY, 2, false);
    block = calloc(1, 1);
    free(calloc(1, 1));
    if (fault_disarm() == NULL || fault_left(-1) != 1) {
        fprintf(terminal, "calls are not intercepted\n");
        _exit(4);
    }
    free(block);
}

int main(int argc, char **argv)
{
    static struct sweep sweep;
    int64_t bad = 0;

    set_up(&sweep);
    /* HDF5's own clearing up at exit does not survive files whose close was
     * made to fail; the log layer says so too late, after the scenarios. */
    (void)H5dont_atexit();
    check_injection();
    if (ge_comm_init(&argc, &argv, &sweep.comm) < GRADECHO_OK)
        return 4;
    sweep.rank = ge_comm_rank(sweep.comm);
    sweep.size = ge_comm_size(sweep.comm);
    ge_comm_set_timeout(sweep.comm, DEADLINE);
    if (!scenarios_prepare(&sweep)) {
        fprintf(terminal, "no inputs\n");
        return 4;
    }
    sweep_all(&sweep, argc, argv);
    unlink(sweep.log);
    unlink(sweep.reference);
    unlink(sweep.gradients);
    unlink(sweep.config);
    unlink(sweep.exported);
    bad = (int64_t)totals.bad + (rmdir(sweep.folder) != 0 ? 1 : 0);
    if (ge_comm_max(sweep.comm, &bad, 1) < GRADECHO_OK)
        return 4;
    if (sweep.rank == 0)
        fprintf(terminal, "%lu points: %lu harmless, %lu refused, %lld bad\n",
                totals.points, totals.harmless, totals.refused, (long long)bad);
    ge_comm_finalize(&sweep.comm);
    return bad == 0 && totals.points > 0 ? 0 : 1;
}
