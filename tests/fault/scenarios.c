/* The work that is swept, and its inputs. */
#include "sweep.h"

#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "gradecho/handoff.h"
#include "reader.h"
#include "run.h"
#include "try.h"

/* src/cli/main.c, compiled under this name. */
int gradecho_main(int argc, char **argv);

enum { REPLICAS = 2, ROWS = 5, COLS = 4, BIAS = 3, ENTRIES_MAX = ROWS * COLS };

/* A gradient with a signal and noise that differs by sample and replica. */
static float entry(int64_t sample, uint32_t replica, size_t at)
{
    uint64_t z = (uint64_t)sample * 1000003 + replica * 10007 + at + 1;

    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (float)((double)(z >> 40) * 0x1p-24 + (at < COLS ? 2.0 : 0.0));
}

static const struct gradecho_layer layers[] = {
    {"block/weight", ROWS, COLS, GRADECHO_F32},
    {"bias", 1, BIAS, GRADECHO_F64}};
enum { LAYERS = sizeof layers / sizeof *layers };

static struct gradecho_options trainer_options(const char *session,
                                               uint32_t rank, uint32_t world)
{
    struct gradecho_options options = gradecho_options_default();

    options.session = session;
    options.rank = rank;
    options.world = world;
    options.replicas = REPLICAS;
    options.layers = layers;
    options.layer_count = LAYERS;
    return options;
}

/* One sample, if it is wanted. */
static gradecho_status hand_over(gradecho *watch, uint32_t rank, int64_t step)
{
    const gradecho_status status = gradecho_begin(watch, step);

    if (status != GRADECHO_OK)
        return status;
    for (uint32_t r = 0; r < REPLICAS; r++) {
        float weight[ENTRIES_MAX];
        double bias[BIAS];

        for (size_t i = 0; i < ENTRIES_MAX; i++)
            weight[i] = entry(step, REPLICAS * rank + r, i);
        for (size_t i = 0; i < BIAS; i++)
            bias[i] = (double)entry(step + 100, REPLICAS * rank + r, i);
        (void)gradecho_write(watch, r, 0, weight);
        (void)gradecho_write(watch, r, 1, bias);
    }
    return gradecho_publish(watch, NULL);
}

/* ---- a trainer in a process of its own ---- */

static bool told(int fd)
{
    struct pollfd poll_one = {.fd = fd, .events = POLLIN};

    return poll(&poll_one, 1, 1) != 0;
}

/* Two bytes make a training: the first starts it, the second ends it. */
static void train(const char *session, uint32_t rank, uint32_t world, int in,
                  int out)
{
    const struct gradecho_options options =
        trainer_options(session, rank, world);
    gradecho *watch = NULL;
    char byte = 0;
    int64_t step = 0;

    while (read(in, &byte, 1) == 1) {
        if (gradecho_open(&options, &watch) != GRADECHO_OK) {
            dprintf(STDERR_FILENO, "trainer: %s\n", gradecho_message());
            return;
        }
        if (write(out, "!", 1) != 1)
            return;
        for (step = 0; step < SAMPLES && !told(in);)
            if (hand_over(watch, rank, step) == GRADECHO_OK)
                step++;
        gradecho_close(&watch);
        if (read(in, &byte, 1) != 1 || write(out, "!", 1) != 1)
            return;
    }
}

void trainer_start(struct sweep *sweep, uint32_t rank, uint32_t world)
{
    int down[2], up[2];

    if (pipe(down) != 0 || pipe(up) != 0)
        abort();
    const pid_t pid = fork();

    if (pid < 0)
        abort();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(down[1]);
        close(up[0]);
        train(sweep->session, rank, world, down[0], up[1]);
        _exit(1);
    }
    close(down[0]);
    close(up[1]);
    sweep->to_trainer = down[1];
    sweep->from_trainer = up[0];
}

static void turn_trainer(struct sweep *sweep)
{
    char byte = 0;

    if (write(sweep->to_trainer, "!", 1) != 1 ||
        read(sweep->from_trainer, &byte, 1) != 1)
        abort();
}

/* ---- scenarios ---- */

static void clear_log(struct sweep *sweep)
{
    unlink(sweep->log);
}

/* An alarm in the third sample at the latest, and all that follows from it. */
static gradecho_status set_alarms(const struct sweep *sweep,
                                  struct ge_config *config)
{
    gradecho_status status = GRADECHO_OK;
    char path[PATH + 32];

    snprintf(path, sizeof path, "prometheus.path=%s", sweep->exported);
    GE_TRY(ge_config_set(config, path));
    GE_TRY(ge_config_set(config, "prometheus.every_seconds=0"));
    GE_TRY(ge_config_set(config, "alarms.knee=1e-12"));
    GE_TRY(ge_config_set(config, "alarms.samples=4"));
    GE_TRY(ge_config_set(config, "alarms.command=true"));
fail:
    return status;
}

static int run_engine(struct sweep *sweep, bool replay, bool alarms)
{
    static const volatile sig_atomic_t stop;
    gradecho_status status = GRADECHO_OK;
    struct ge_config config = {0};
    const struct ge_run run = {
        .config = &config,
        .session = replay ? NULL : sweep->session,
        .gradients = replay ? sweep->gradients : NULL,
        .log_path = sweep->log,
        .stop = &stop,
    };

    ge_message_capture(1);
    status = ge_config_init(&config);
    if (status >= GRADECHO_OK)
        status = ge_config_set(&config, "echo.estimator=both");
    if (status >= GRADECHO_OK)
        status = ge_config_set(&config, "sample.echo_every=2");
    if (status >= GRADECHO_OK)
        status = ge_config_set(&config, "timeout_seconds=10");
    if (status >= GRADECHO_OK && alarms)
        status = set_alarms(sweep, &config);
    GE_TRY(ge_comm_agree(sweep->comm, status));
    GE_TRY(ge_run(sweep->comm, &run));
fail:
    ge_config_fini(&config);
    return ge_status_exit_code(status);
}

static int run_replay(struct sweep *sweep)
{
    return run_engine(sweep, true, false);
}

static int run_monitor(struct sweep *sweep)
{
    return run_engine(sweep, false, false);
}

static int run_alarms(struct sweep *sweep)
{
    return run_engine(sweep, true, true);
}

static void before_monitor(struct sweep *sweep)
{
    clear_log(sweep);
    turn_trainer(sweep);
}

/* The trainer's own calls; nobody listens, as in most of a training's life.
 * Then somebody does: the sample goes out. */
static int run_trainer(struct sweep *sweep)
{
    const struct gradecho_options options =
        trainer_options(sweep->session, 100, 101);
    gradecho_status status = GRADECHO_OK;
    gradecho *watch = NULL;

    status = gradecho_open(&options, &watch);
    if (status < GRADECHO_OK) /* what a trainer prints */
        ge_error("%s", gradecho_message());
    (void)hand_over(watch, 0, 1);
    gradecho_close(&watch);
    return ge_status_exit_code(status);
}

/* A whole command of the program. */
static int run_command(char *first, char *second, char *third)
{
    static char program[] = "gradecho";
    char *argv[] = {program, first, second, third, NULL};
    int argc = 0;

    while (argv[argc] != NULL)
        argc++;
    return gradecho_main(argc, argv);
}

#define COMMAND(name, first, second, third)    \
    static int name(struct sweep *sweep)       \
    {                                          \
        static char a[] = first, b[] = second; \
                                               \
        return run_command(a, b, third);       \
    }

COMMAND(run_config, "config", "--check", sweep->config)
COMMAND(run_inspect_json, "inspect", "--json", sweep->reference)
COMMAND(run_inspect_advice, "inspect", "--advice", sweep->reference)
COMMAND(run_export_csv, "export", "--format=csv", sweep->reference)
COMMAND(run_export_jsonl, "export", "--format=jsonl", sweep->reference)
COMMAND(run_inspect_layer, "inspect", "--layer=b*", sweep->reference)

static int run_inspect(struct sweep *sweep)
{
    static char a[] = "inspect";

    return run_command(a, sweep->reference, NULL);
}

static int run_diff(struct sweep *sweep)
{
    static char a[] = "diff";

    return run_command(a, sweep->reference, sweep->reference);
}

#define ALL                                                                \
    {                                                                      \
        [FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true, \
        [FAULT_MPI] = true, [FAULT_LAPACK] = true                          \
    }

const struct scenario scenarios[] = {
    {"replay", true, clear_log, NULL, run_replay, ALL},
    {"monitor", true, before_monitor, turn_trainer, run_monitor, ALL},
    {"alarms",
     true,
     clear_log,
     NULL,
     run_alarms,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true}},
    {"trainer",
     false,
     NULL,
     NULL,
     run_trainer,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true}},
    {"config",
     false,
     NULL,
     NULL,
     run_config,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true}},
    {"inspect",
     false,
     NULL,
     NULL,
     run_inspect,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true}},
    {"inspect --json",
     false,
     NULL,
     NULL,
     run_inspect_json,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true}},
    {"inspect --layer",
     false,
     NULL,
     NULL,
     run_inspect_layer,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true}},
    {"inspect --advice",
     false,
     NULL,
     NULL,
     run_inspect_advice,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true}},
    {"diff",
     false,
     NULL,
     NULL,
     run_diff,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true}},
    {"export csv",
     false,
     NULL,
     NULL,
     run_export_csv,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true}},
    {"export jsonl",
     false,
     NULL,
     NULL,
     run_export_jsonl,
     {[FAULT_MEMORY] = true, [FAULT_SYSTEM] = true, [FAULT_HDF5] = true}},
};
const size_t scenario_count = sizeof scenarios / sizeof *scenarios;

/* ---- inputs ---- */

static bool write_dataset(hid_t file, const char *name, int rank,
                          const hsize_t *size, const float *values)
{
    const hid_t links = H5Pcreate(H5P_LINK_CREATE);
    const hid_t space = H5Screate_simple(rank, size, NULL);
    hid_t dataset = H5I_INVALID_HID;
    bool good = H5Pset_create_intermediate_group(links, 1) >= 0;

    dataset = H5Dcreate2(file, name, H5T_IEEE_F32LE, space, links, H5P_DEFAULT,
                         H5P_DEFAULT);
    good = good && H5Dwrite(dataset, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL,
                            H5P_DEFAULT, values) >= 0;
    H5Dclose(dataset);
    H5Sclose(space);
    H5Pclose(links);
    return good;
}

static bool write_gradients(const char *path)
{
    enum { K = 4 };
    static float weight[SAMPLES * K * ROWS * COLS], bias[SAMPLES * K * BIAS];
    const hsize_t plane[] = {SAMPLES, K, ROWS, COLS},
                  line[] = {SAMPLES, K, BIAS};
    const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    bool good = file >= 0;

    for (uint32_t i = 0; i < SAMPLES * K; i++) {
        for (size_t j = 0; j < ENTRIES_MAX; j++)
            weight[i * ENTRIES_MAX + j] = entry(i / K, i % K, j);
        for (size_t j = 0; j < BIAS; j++)
            bias[i * BIAS + j] = entry(i / K + 100, i % K, j);
    }
    good = good &&
           write_dataset(file, "gradients/block/weight", 4, plane, weight) &&
           write_dataset(file, "gradients/bias", 3, line, bias);
    H5Fclose(file);
    return good;
}

static bool write_config(const char *path)
{
    FILE *file = fopen(path, "w");

    if (file == NULL)
        return false;
    fputs("session: quiet\nlayers: {include: [\"*weight\", \"b*\"], exclude: "
          "[\"embed\"]}\nsvd:\n  placement: root\nlog: {path: \"x.h5\"}\n",
          file);
    return fclose(file) == 0;
}

bool scenarios_prepare(struct sweep *sweep)
{
    return write_gradients(sweep->gradients) && write_config(sweep->config);
}

/* ---- what a log holds ---- */

/* All that does not depend on who is faster. */
static bool same_rows(const struct ge_row *a, const struct ge_row *b)
{
    if (a->step != b->step)
        return false;
    for (int f = 0; f < GE_FIELDS; f++) {
        const size_t count = ge_shape_count(ge_fields[f].shape, &a->dims);

        if (f != GE_TIME && f != GE_DURATION && f != GE_DROPPED &&
            memcmp(a->values[f], b->values[f], count * sizeof(double)) != 0)
            return false;
    }
    return true;
}

static enum log_state compare(ge_log_reader *log, ge_log_reader *reference)
{
    const struct ge_dimensions *dims = &ge_log_reader_facts(reference)->dims;
    struct ge_row row = {0}, expected = {0};
    uint64_t rows = 0, all = 0, next = 0;
    enum log_state state = LOG_UNREADABLE;

    if (ge_log_refresh(log, &rows) < GRADECHO_OK ||
        ge_log_refresh(reference, &all) < GRADECHO_OK ||
        ge_row_init(&row, dims) < GRADECHO_OK ||
        ge_row_init(&expected, dims) < GRADECHO_OK)
        goto done;
    for (uint64_t i = 0; i < rows; i++) {
        bool same = false;

        if (ge_log_read_row(log, i, &row) < GRADECHO_OK)
            goto done;
        while (!same && next < all) /* some may be missing */
            same =
                ge_log_read_row(reference, next++, &expected) >= GRADECHO_OK &&
                same_rows(&row, &expected);
        if (!same) {
            state = LOG_DIFFERS;
            goto done;
        }
    }
    state = rows == all ? LOG_WHOLE : LOG_PART;
done:
    ge_row_fini(&row);
    ge_row_fini(&expected);
    return state;
}

enum log_state log_look(const struct sweep *sweep)
{
    ge_log_reader *log = NULL, *reference = NULL;
    enum log_state state = LOG_UNREADABLE;

    if (access(sweep->log, F_OK) != 0)
        return LOG_NONE;
    if (ge_log_open(sweep->log, &log) >= GRADECHO_OK &&
        ge_log_open(sweep->reference, &reference) >= GRADECHO_OK)
        state = compare(log, reference);
    ge_log_reader_close(&log);
    ge_log_reader_close(&reference);
    return state;
}
