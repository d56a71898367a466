/*
 * The table of `gradecho inspect`: one line per layer, then what stands out.
 */
#include <math.h>
#include <string.h>

#include "advice.h"
#include "inspect.h"
#include "memory.h"
#include "try.h"
#include "verdict.h"

enum { NAME_MOST = 40 };

const char *ge_show_number(double value, char *text, size_t size)
{
    if (isnan(value))
        snprintf(text, size, "-");
    else if (fabs(value) >= 100.0 && fabs(value) < 1e6)
        snprintf(text, size, "%.0f", value);
    else if (value == 0.0 || (fabs(value) >= 0.01 && fabs(value) < 100.0))
        snprintf(text, size, "%.3g", value);
    else
        snprintf(text, size, "%.1e", value);
    return text;
}

const char *ge_show_scale(double value, char *text, size_t size)
{
    if (value < 0.0 || isinf(value))
        snprintf(text, size, "no bound");
    else
        ge_show_number(value, text, size);
    return text;
}

/* Echoes from 0 to 1 as a line of bars, a place a mode. */
static void print_spark(const double *echo, size_t count, bool unicode,
                        FILE *out)
{
    static const char *const blocks[] = {" ", "▁", "▂", "▃", "▄",
                                         "▅", "▆", "▇", "█"};
    static const char *const letters[] = {".", "1", "2", "3", "4",
                                          "5", "6", "7", "8"};

    for (size_t k = 0; k < count; k++) {
        int level = 0;

        if (isnan(echo[k]))
            break;
        level = (int)lrint(8.0 * fmin(fmax(echo[k], 0.0), 1.0));
        fputs(unicode ? blocks[level] : letters[level], out);
    }
}

static void print_echo_steps(const struct ge_digest *d, FILE *out)
{
    long long oldest = d->echo.step;

    if (oldest < 0)
        return;
    for (size_t l = 0; l < d->row.dims.layers; l++)
        if (d->echo_step[l] >= 0 && d->echo_step[l] < oldest)
            oldest = d->echo_step[l];
    if (oldest < d->echo.step) /* layers take turns */
        fprintf(out, "; echoes of steps %lld to %lld", oldest, d->echo.step);
    else
        fprintf(out, "; echoes of step %lld", d->echo.step);
}

static void print_head(const struct ge_digest *d, FILE *out)
{
    const struct ge_row *row = &d->row;
    char loss[32], batch[32];

    fprintf(out, "%s: session %s, %lld trainers, %llu samples", d->path,
            d->facts->session, (long long)d->facts->world_size,
            (unsigned long long)d->rows);
    if (d->facts->restarts > 0)
        fprintf(out, ", %lld restart%s", (long long)d->facts->restarts,
                d->facts->restarts > 1 ? "s" : "");
    if (d->restarted >= 0)
        fprintf(out, "%s before step %lld",
                d->facts->restarts > 1 ? ", the last" : "", d->restarted);
    fprintf(out, "%s\n",
            d->facts->end != GE_LOG_OPEN ? ""
            : d->facts->held             ? ", still open"
                                         : ", its writer was killed");
    fprintf(out,
            "step %lld: loss %s, %.0f replicas of %s examples, %.0f samples "
            "dropped; noise averaged over %llu samples",
            row->step,
            ge_show_number(row->values[GE_LOSS][0], loss, sizeof loss),
            row->values[GE_REPLICAS][0],
            ge_show_number(row->values[GE_BATCH_SIZE][0], batch, sizeof batch),
            row->values[GE_DROPPED][0], (unsigned long long)d->averaged);
    print_echo_steps(d, out);
    fputs("\n\n", out);
}

static int name_width(const struct ge_digest *d)
{
    size_t width = strlen("whole model");

    for (size_t l = 0; l < d->row.dims.layers; l++)
        if (d->shown[l])
            width = ge_max_size(width, strlen(d->facts->layers[l].name));
    return (int)ge_min_size(width, NAME_MOST);
}

static void print_layer(const struct ge_digest *d, size_t l, int width,
                        bool unicode, FILE *out)
{
    const struct ge_log_layer *layer = &d->facts->layers[l];
    const size_t modes = d->row.dims.modes;
    const double *echo = d->echo.values[GE_ECHO] + l * modes;
    char shape[48], sigma2[32], noise[32], knee[32], first[32];

    snprintf(shape, sizeof shape, "%llu x %llu",
             (unsigned long long)layer->rows, (unsigned long long)layer->cols);
    fprintf(out, "%-*.*s  %13s  %9s  %11s  %9s", width, width, layer->name,
            shape, ge_show_number(d->sigma2[l], sigma2, sizeof sigma2),
            ge_show_scale(d->noise_scale[l], noise, sizeof noise),
            ge_show_number(d->row.values[GE_EDGE][l], knee, sizeof knee));
    if (!isnan(echo[0])) {
        fprintf(out, "  %6.0f  %6s  ", d->echo.values[GE_SIGNAL_MODES][l],
                ge_show_number(echo[0], first, sizeof first));
        print_spark(echo, modes, unicode, out);
    }
    fputc('\n', out);
}

static void print_layers(const struct ge_digest *d, bool unicode, FILE *out)
{
    const int width = name_width(d);
    char noise[32];

    fprintf(out, "%-*s  %13s  %9s  %11s  %9s  %6s  %6s  %s\n", width, "layer",
            "rows x cols", "sigma^2", "noise scale", "knee", "signal", "echo",
            unicode ? "echo of modes 1, 2, ..."
                    : "echo of modes 1, 2, ... (8: all real, .: none)");
    for (size_t l = 0; l < d->row.dims.layers; l++)
        if (d->shown[l])
            print_layer(d, l, width, unicode, out);
    if (!d->modes)
        fprintf(out, "%-*s  %13s  %9s  %11s\n", width, "whole model", "", "",
                ge_show_scale(d->model_scale, noise, sizeof noise));
    fputs("\nsigma^2: variance of one gradient entry of one replica. noise "
          "scale: examples at which noise\nand signal are equal. knee: "
          "singular value under which isotropic noise drowns a mode.\nsignal: "
          "modes that are not noise. echo: how much of the first mode is "
          "real.\n",
          out);
}

static void print_modes(const struct ge_digest *d, size_t l, bool unicode,
                        FILE *out)
{
    static const enum ge_field fields[] = {
        GE_S_REPLICA, GE_S_EST,  GE_ECHO,       GE_ECHO_SE,
        GE_GAIN,      GE_MODE_T, GE_ECHO_EXACT, GE_ECHO_MODE};
    static const char *const heads[] = {"s seen", "s true", "echo",  "+-",
                                        "gain",   "t",      "exact", "mode"};
    const size_t modes = d->row.dims.modes;
    char text[32];

    fprintf(out, "\n%s\n%4s", d->facts->layers[l].name, "mode");
    for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
        fprintf(out, "  %8s", heads[f]);
    fputc('\n', out);
    for (size_t k = 0; k < modes; k++) {
        const size_t at = l * modes + k;

        if (isnan(d->echo.values[GE_S_MEAN][at]))
            break;
        fprintf(out, "%4zu", k + 1);
        for (size_t f = 0; f < sizeof fields / sizeof *fields; f++)
            fprintf(out, "  %8s",
                    ge_show_number(d->echo.values[fields[f]][at], text,
                                   sizeof text));
        fputs("  ", out);
        print_spark(&d->echo.values[GE_ECHO][at], 1, unicode, out);
        fputc('\n', out);
    }
}

static void print_verdicts(const struct ge_digest *d, FILE *out)
{
    struct ge_verdict list[GE_VERDICTS_MAX];
    const size_t count = ge_verdicts(d, list);

    fputs("\nwhat stands out\n", out);
    for (size_t i = 0; i < count && i < GE_VERDICTS_SHOWN; i++)
        fprintf(out, "  %s\n", list[i].text);
    if (count > GE_VERDICTS_SHOWN)
        fprintf(out, "  and %zu more: --json has them\n",
                count - GE_VERDICTS_SHOWN);
    if (count == 0)
        fputs("  nothing\n", out);
}

gradecho_status ge_inspect_table(const struct ge_digest *digest, bool unicode,
                                 FILE *out)
{
    gradecho_status status = GRADECHO_OK;

    print_head(digest, out);
    print_layers(digest, unicode, out);
    print_verdicts(digest, out);
    ge_alarm_history_print(&digest->alarms, &digest->row, digest->facts->layers,
                           out);
    if (digest->advice || !digest->modes)
        GE_TRY(ge_advice_print(digest, digest->advice, out));
    if (digest->modes && digest->echo.step >= 0)
        for (size_t l = 0; l < digest->row.dims.layers; l++)
            if (digest->shown[l] &&
                !isnan(
                    digest->echo.values[GE_S_MEAN][l * digest->row.dims.modes]))
                print_modes(digest, l, unicode, out);
fail:
    return status;
}
