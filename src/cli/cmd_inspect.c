/*
 * gradecho inspect: load what a log says of one sample, and show it.
 */
#include <argp.h>
#include <errno.h>
#include <fnmatch.h>
#include <langinfo.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "inspect.h"
#include "memory.h"
#include "noise.h"
#include "try.h"

enum { AVERAGED_MAX = 100 }; /* rows behind the averages */
enum { KEY_LAYER = 0x100, KEY_STEP, KEY_JSON };

struct arguments {
    const char *path, *layer;
    long long step; /* -1: the last */
    bool json;
};

static const struct argp_option options[] = {
    {"layer", KEY_LAYER, "GLOB", 0, "only these layers, mode by mode", 0},
    {"step", KEY_STEP, "N", 0, "the sample of step N (default: the last)", 0},
    {"json", KEY_JSON, NULL, 0, "print JSON", 0},
    {0},
};

static error_t parse_option(int key, char *value, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end = NULL;

    switch (key) {
    case KEY_LAYER:
        a->layer = value;
        break;
    case KEY_JSON:
        a->json = true;
        break;
    case KEY_STEP:
        a->step = strtoll(value, &end, 10);
        if (end == value || *end != '\0' || a->step < 0) {
            argp_error(state, "--step must be a whole number, not %s", value);
            return EINVAL;
        }
        break;
    case ARGP_KEY_ARG:
        if (a->path != NULL) {
            argp_error(state, "unexpected argument %s", value);
            return EINVAL;
        }
        a->path = value;
        break;
    case ARGP_KEY_END:
        if (a->path == NULL) {
            argp_error(state, "no log is named");
            return EINVAL;
        }
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

/* Index of the row to show. */
static gradecho_status find_row(ge_log_reader *reader, const char *path,
                                uint64_t rows, long long step, uint64_t *index)
{
    gradecho_status status = GRADECHO_OK;
    int64_t *steps = NULL;

    GE_FAIL_IF(rows == 0, GRADECHO_E_INPUT, "%s holds no sample yet", path);
    *index = rows - 1;
    if (step < 0)
        return GRADECHO_OK;
    steps = ge_alloc((size_t)rows, sizeof *steps);
    GE_FAIL_IF(steps == NULL, GRADECHO_E_NOMEM, "no memory for %llu steps",
               (unsigned long long)rows);
    GE_TRY(ge_log_steps(reader, 0, rows, steps));
    while (*index > 0 && steps[*index] != step)
        (*index)--;
    GE_FAIL_IF(steps[*index] != step, GRADECHO_E_INPUT,
               "%s has no sample of step %lld; it has steps %lld to %lld", path,
               step, (long long)steps[0], (long long)steps[rows - 1]);
fail:
    free(steps);
    return status;
}

static bool has_echo(const struct ge_row *row)
{
    for (size_t i = 0; i < row->dims.layers * row->dims.modes; i++)
        if (!isnan(row->values[GE_ECHO][i]))
            return true;
    return false;
}

/* The last row with echoes at or before `index`. */
static gradecho_status find_echo(ge_log_reader *reader, uint64_t index,
                                 struct ge_digest *digest)
{
    gradecho_status status = GRADECHO_OK;
    const size_t width = digest->row.dims.layers * digest->row.dims.modes;
    double *echoes = ge_alloc(width, sizeof *echoes);

    GE_FAIL_IF(echoes == NULL, GRADECHO_E_NOMEM, "no memory for echoes");
    for (uint64_t at = index + 1; at-- > 0;) {
        bool any = false;

        GE_TRY(ge_log_read(reader, GE_ECHO, at, 1, echoes));
        for (size_t i = 0; i < width && !any; i++)
            any = !isnan(echoes[i]);
        if (any) {
            GE_TRY(ge_log_read_row(reader, at, &digest->echo));
            break;
        }
    }
fail:
    free(echoes);
    return status;
}

/* Averages over the last rows: noise scales are ratios of averages, for an
 * average of ratios is biased without bound where the gradient is small. */
static gradecho_status average(ge_log_reader *reader, uint64_t index,
                               struct ge_digest *digest)
{
    gradecho_status status = GRADECHO_OK;
    const size_t layers = digest->row.dims.layers;
    const uint64_t rows = digest->averaged;
    const size_t cells = (size_t)rows * layers;
    const double batch = digest->row.values[GE_BATCH_SIZE][0];
    double *trace = ge_alloc(3 * cells, sizeof *trace);
    double *square = trace + cells, *sigma2 = square + cells;
    double all_trace = 0.0, all_square = 0.0;

    GE_FAIL_IF(trace == NULL, GRADECHO_E_NOMEM, "no memory for averages");
    GE_TRY(ge_log_read(reader, GE_NOISE_TRACE, index + 1 - rows, rows, trace));
    GE_TRY(ge_log_read(reader, GE_GRAD_SQNORM, index + 1 - rows, rows, square));
    GE_TRY(ge_log_read(reader, GE_SIGMA2, index + 1 - rows, rows, sigma2));
    for (size_t l = 0; l < layers; l++) {
        double t = 0.0, g = 0.0, v = 0.0, n = 0.0;

        for (size_t i = l; i < cells; i += layers) {
            if (isnan(trace[i]) || isnan(square[i]))
                continue;
            t += trace[i];
            g += square[i];
            v += sigma2[i];
            n += 1.0;
        }
        digest->sigma2[l] = n > 0.0 ? v / n : (double)NAN;
        digest->noise_scale[l] = ge_noise_scale(batch, t, g);
        all_trace += t;
        all_square += g;
    }
    digest->model_scale = ge_noise_scale(batch, all_trace, all_square);
fail:
    free(trace);
    return status;
}

/* The first step after the last restart of the monitors that left a row. */
static gradecho_status find_restart(ge_log_reader *reader,
                                    struct ge_digest *digest)
{
    gradecho_status status = GRADECHO_OK;
    const uint64_t rows = digest->rows;
    double *restarts = NULL;
    int64_t step = -1;
    uint64_t at = rows;

    digest->restarted = -1;
    if (digest->facts->restarts <= 0)
        return GRADECHO_OK;
    restarts = ge_alloc((size_t)rows, sizeof *restarts);
    GE_FAIL_IF(restarts == NULL, GRADECHO_E_NOMEM, "no memory for %llu rows",
               (unsigned long long)rows);
    GE_TRY(ge_log_read(reader, GE_RESTARTS, 0, rows, restarts));
    while (at > 0 && restarts[at - 1] == restarts[rows - 1])
        at--;
    if (restarts[rows - 1] > 0.0)
        GE_TRY(ge_log_steps(reader, at, 1, &step));
    digest->restarted = step;
fail:
    free(restarts);
    return status;
}

static gradecho_status load(ge_log_reader *reader, const struct arguments *a,
                            struct ge_digest *digest)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_dimensions *dims = &digest->facts->dims;
    uint64_t index = 0;
    size_t shown = 0;

    GE_TRY(ge_log_refresh(reader, &digest->rows));
    GE_TRY(find_row(reader, a->path, digest->rows, a->step, &index));
    GE_TRY(find_restart(reader, digest));
    digest->averaged = index + 1 < AVERAGED_MAX ? index + 1 : AVERAGED_MAX;
    GE_TRY(ge_row_init(&digest->row, dims));
    GE_TRY(ge_row_init(&digest->echo, dims));
    digest->noise_scale = ge_alloc(dims->layers, sizeof(double));
    digest->sigma2 = ge_alloc(dims->layers, sizeof(double));
    digest->shown = ge_alloc(dims->layers, sizeof(bool));
    GE_FAIL_IF(digest->noise_scale == NULL || digest->sigma2 == NULL ||
                   digest->shown == NULL,
               GRADECHO_E_NOMEM, "no memory for %zu layers", dims->layers);
    for (size_t l = 0; l < dims->layers; l++) {
        digest->shown[l] =
            a->layer == NULL ||
            fnmatch(a->layer, digest->facts->layers[l].name, 0) == 0;
        shown += digest->shown[l] ? 1 : 0;
    }
    GE_FAIL_IF(shown == 0, GRADECHO_E_INPUT, "%s: no layer matches %s", a->path,
               a->layer);
    GE_TRY(ge_log_read_row(reader, index, &digest->row));
    GE_TRY(average(reader, index, digest));
    if (has_echo(&digest->row))
        GE_TRY(ge_log_read_row(reader, index, &digest->echo));
    else
        GE_TRY(find_echo(reader, index, digest));
fail:
    return status;
}

int ge_cmd_inspect(int argc, char **argv)
{
    const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "LOG",
        .doc = "Show what a log says, finished or still growing.\v"
               "  gradecho inspect run.h5\n"
               "  gradecho inspect run.h5 --layer 'hidden*' --step 200"};
    gradecho_status status = GRADECHO_OK;
    struct arguments a = {.step = -1};
    struct ge_digest digest = {0};
    ge_log_reader *reader = NULL;

    if (ge_cli_parse(&argp, argc, argv, &a) != GE_EXIT_OK)
        return GE_EXIT_USAGE;
    GE_TRY(ge_log_open(a.path, &reader));
    digest.path = a.path;
    digest.facts = ge_log_reader_facts(reader);
    digest.modes = a.layer != NULL;
    GE_TRY(load(reader, &a, &digest));

    setlocale(LC_CTYPE, "");
    const bool unicode = isatty(STDOUT_FILENO) == 1 &&
                         strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    if (a.json)
        GE_TRY(ge_inspect_json(&digest, stdout));
    else
        ge_inspect_table(&digest, unicode, stdout);
    GE_FAIL_IF(fflush(stdout) != 0 || ferror(stdout), GRADECHO_E_SYS,
               "cannot write to standard output");
fail:
    ge_row_fini(&digest.row);
    ge_row_fini(&digest.echo);
    free(digest.noise_scale);
    free(digest.sigma2);
    free(digest.shown);
    ge_log_reader_close(&reader);
    return ge_status_exit_code(status);
}
