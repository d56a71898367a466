/*
 * Advice in words: the whole model in a few sentences, layers in a table.
 */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "advice.h"
#include "memory.h"
#include "try.h"

enum { COLUMNS = 100, INDENT = 4, NAME_MOST = 40 };

/* A sentence after another into `text`; what does not fit is cut off. */
__attribute__((format(printf, 3, 4))) static void add(char *text, size_t size,
                                                      const char *format, ...)
{
    const size_t used = strlen(text);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
}

/* Up to the next place where a line may end: "80 %" stays together. */
static size_t word_length(const char *text)
{
    size_t length = strcspn(text, " ");

    while (text[length] == ' ' && text[length + 1] == '%')
        length += 1 + strcspn(text + length + 1, " ");
    return length;
}

/* A paragraph, its later lines further in. */
static void print_wrapped(const char *text, FILE *out)
{
    int column = 1;

    fputc(' ', out);
    while (*text != '\0') {
        const int word = (int)word_length(text);

        if (column > INDENT && column + 1 + word > COLUMNS) {
            fprintf(out, "\n%*s", INDENT - 1, "");
            column = INDENT - 1;
        }
        fprintf(out, " %.*s", word, text);
        column += 1 + word;
        text += word;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* High over low of the parts of a window, where one average says little. */
#define DRIFT 4.0

/* Examples: a whole number with three digits that count. */
static const char *examples(double value, char *text, size_t size)
{
    const double unit =
        value >= 1000.0 ? pow(10.0, floor(log10(value)) - 2.0) : 1.0;

    if (isinf(value))
        snprintf(text, size, "no bound");
    else
        snprintf(text, size, "%.0f", rint(value / unit) * unit);
    return text;
}

static void print_batch(const struct ge_advice *a, FILE *out)
{
    char text[512] = "batch size: ", one[32], two[32], low[32], high[32];

    if (!isnan(a->at_least))
        add(text, sizeof text,
            "critical batch above %s examples: over this window %s; --since N "
            "takes another",
            examples(a->at_least, one, sizeof one),
            ge_silence_words(a->critical.silence));
    else if (a->critical.silence != GE_SAID)
        add(text, sizeof text, "nothing, %s",
            ge_silence_words(a->critical.silence));
    else
        add(text, sizeof text,
            "critical batch %s +- %s examples (%s to %s within the window). "
            "Today's %.0f make %.0f %% of the progress of a step without "
            "noise, twice as many %.0f %%, half as many %.0f %%. Assumes "
            "curvature alike in all directions.",
            examples(a->critical.value, one, sizeof one),
            examples(a->critical.se, two, sizeof two),
            examples(a->low, low, sizeof low),
            examples(a->high, high, sizeof high), a->batch,
            100.0 * a->progress[1], 100.0 * a->progress[2],
            100.0 * a->progress[0]);
    if (a->high > DRIFT * a->low)
        add(text, sizeof text,
            " It changes by more than %.0f times: --since N narrows the "
            "window.",
            DRIFT);
    print_wrapped(text, out);
}

static void print_knee(const struct ge_advice *a, FILE *out)
{
    char text[512] = "knee: ", one[32], low[32], high[32];
    bool said = false;

    for (int i = 0; i < GE_ADVICE_SHARES; i++) {
        if (a->knee[i].silence != GE_SAID)
            continue;
        if (!said)
            add(text, sizeof text,
                "of %zu signal modes, %.0f %% have an echo above 0.5 from a "
                "batch of %s examples on (%s to %s)",
                a->signal, 100.0 * ge_advice_shares[i],
                examples(a->knee[i].value, one, sizeof one),
                examples(a->knee_low[i], low, sizeof low),
                examples(a->knee_high[i], high, sizeof high));
        else
            add(text, sizeof text, ", %.0f %% from %s (%s to %s)",
                100.0 * ge_advice_shares[i],
                examples(a->knee[i].value, one, sizeof one),
                examples(a->knee_low[i], low, sizeof low),
                examples(a->knee_high[i], high, sizeof high));
        said = true;
    }
    for (int i = 0; i < GE_ADVICE_SHARES; i++) {
        if (a->knee[i].silence == GE_SAID)
            continue;
        if (!said) {
            add(text, sizeof text, "nothing, %s",
                ge_silence_words(a->knee[i].silence));
            break;
        }
        add(text, sizeof text, "; on %.0f %% nothing: %s",
            100.0 * ge_advice_shares[i], ge_silence_words(a->knee[i].silence));
        break;
    }
    if (said)
        add(text, sizeof text,
            ". Assumes that the noise along a mode falls as 1/batch.");
    print_wrapped(text, out);
}

static void print_trust(const struct ge_advice *a, FILE *out)
{
    char text[512] = "spectral optimizers: ";

    if (a->trust.silence != GE_SAID)
        add(text, sizeof text, "nothing, %s",
            ge_silence_words(a->trust.silence));
    else
        add(text, sizeof text,
            "trust %.1f +- %.1f of %zu modes: so many have an echo above 0.5 "
            "in today's mean gradient (%zu are signal). Assumes independent "
            "replicas.",
            a->trust.value, a->trust.se, a->measured, a->signal);
    print_wrapped(text, out);
}

static void print_saving(const struct ge_advice *a, FILE *out)
{
    char text[512] = "denoising: ";

    if (a->saving.silence != GE_SAID)
        add(text, sizeof text, "nothing, %s",
            ge_silence_words(a->saving.silence));
    else
        add(text, sizeof text,
            "signal modes multiplied by their gain, and the rest of each layer "
            "by one factor, would take %.0f +- %.0f %% off the squared error "
            "of the mean gradient. Assumes independent replicas and the best "
            "factors.",
            100.0 * a->saving.value, 100.0 * a->saving.se);
    print_wrapped(text, out);
}

static void print_model(const struct ge_advice *a, FILE *out)
{
    const enum ge_silence why = a->critical.silence;

    if (why != GE_SAID && why == a->knee[0].silence &&
        why == a->trust.silence && why == a->saving.silence) {
        fprintf(out, "  none: %s\n", ge_silence_words(why));
        return;
    }
    print_batch(a, out);
    print_knee(a, out);
    print_trust(a, out);
    print_saving(a, out);
}

/* ---- layer by layer ---- */

/* Whose silences are gathered under the table. */
struct notes {
    const char *what;
    size_t count[GE_SILENCES], first[GE_SILENCES];
};

static void note(struct notes *notes, enum ge_silence why, size_t layer)
{
    if (why != GE_SAID && notes->count[why]++ == 0)
        notes->first[why] = layer;
}

static void print_notes(const struct ge_digest *d, const struct notes *notes,
                        FILE *out)
{
    for (int why = GE_SAID + 1; why < GE_SILENCES; why++) {
        const size_t count = notes->count[why];
        char text[512] = "";

        if (count == 0)
            continue;
        add(text, sizeof text, "no %s: %s (%s", notes->what,
            ge_silence_words((enum ge_silence)why),
            d->facts->layers[notes->first[why]].name);
        if (count > 1)
            add(text, sizeof text, " and %zu more", count - 1);
        add(text, sizeof text, ")");
        print_wrapped(text, out);
    }
}

static const char *batch_cell(const struct ge_told *told, char *text,
                              size_t size)
{
    if (told->silence != GE_SAID)
        return "-";
    return examples(told->value, text, size);
}

static void print_row(const char *name, int width, const struct ge_advice *a,
                      FILE *out)
{
    char text[32], trust[48] = "-", saving[48] = "-", rest[sizeof text + 1];

    fprintf(out, "%-*.*s  %9s", width, width, name,
            isnan(a->at_least)
                ? batch_cell(&a->critical, text, sizeof text)
                : (snprintf(rest, sizeof rest, ">%s",
                            examples(a->at_least, text, sizeof text)),
                   rest));
    fprintf(out, "  %8s",
            a->critical.silence == GE_SAID
                ? examples(a->critical.se, text, sizeof text)
                : "-");
    for (int i = 0; i < GE_ADVICE_SHARES; i++)
        fprintf(out, "  %8s", batch_cell(&a->knee[i], text, sizeof text));
    if (a->trust.silence == GE_SAID)
        snprintf(trust, sizeof trust, "%.1f +- %.1f", a->trust.value,
                 a->trust.se);
    if (a->saving.silence == GE_SAID)
        snprintf(saving, sizeof saving, "%.0f +- %.0f %%",
                 100.0 * a->saving.value, 100.0 * a->saving.se);
    fprintf(out, "  %6zu  %11s  %10s  %5s\n", a->signal, trust, saving,
            ge_show_number(a->rest, rest, sizeof rest));
}

static gradecho_status print_layers(const struct ge_digest *d, FILE *out)
{
    gradecho_status status = GRADECHO_OK;
    struct notes notes[] = {{.what = "critical batch"},
                            {.what = "batch for 95 % of the modes"},
                            {.what = "modes to trust"},
                            {.what = "saving"}};
    size_t width = strlen("layer");
    struct ge_advice a;

    for (size_t l = 0; l < d->row.dims.layers; l++)
        if (d->shown[l])
            width = ge_max_size(width, strlen(d->facts->layers[l].name));
    width = ge_min_size(width, NAME_MOST);
    fprintf(out, "%-*s  %9s  %8s  %8s  %8s  %8s  %6s  %11s  %10s  %5s\n",
            (int)width, "layer", "crit. b.", "+-", "50 %", "80 %", "95 %",
            "signal", "trust", "saves", "rest");
    for (size_t l = 0; l < d->row.dims.layers; l++) {
        if (!d->shown[l])
            continue;
        GE_TRY(ge_advise(d, l, &a));
        print_row(d->facts->layers[l].name, (int)width, &a, out);
        note(&notes[0], a.critical.silence, l);
        note(&notes[1], a.knee[GE_ADVICE_SHARES - 1].silence, l);
        note(&notes[2], a.trust.silence, l);
        note(&notes[3], a.saving.silence, l);
    }
    fputs(
        "\ncrit. b.: critical batch in examples, of all replicas. 50 %, 80 %, "
        "95 %: batch from which on this\nshare of the signal modes has an "
        "echo above 0.5. trust: modes with that in today's mean gradient.\n"
        "saves: of the mean's squared error, by gains on the signal modes "
        "and the factor `rest` on all else.\n",
        out);
    for (size_t i = 0; i < sizeof notes / sizeof *notes; i++)
        print_notes(d, &notes[i], out);
fail:
    return status;
}

gradecho_status ge_advice_print(const struct ge_digest *d, bool by_layer,
                                FILE *out)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_advice a;

    fputs("\nadvice\n", out);
    if (!d->modes) {
        GE_TRY(ge_advise(d, GE_WHOLE_MODEL, &a));
        print_model(&a, out);
    }
    if (by_layer) {
        if (!d->modes)
            fputc('\n', out);
        GE_TRY(print_layers(d, out));
    }
fail:
    return status;
}
