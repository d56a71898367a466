/*
 * The differences of two runs for people.
 */
#include <math.h>
#include <string.h>

#include "diff.h"
#include "inspect.h"
#include "memory.h"

enum { NAME_MOST = 40, LAYERS_NAMED = 5 };

static const char *layer_name(const struct ge_diff_item *item)
{
    return item->layer != NULL ? item->layer : "whole model";
}

static void print_runs(const struct ge_diff *d, FILE *out)
{
    for (int i = 0; i < 2; i++) {
        const struct ge_diff_run *run = &d->run[i];

        fprintf(out, "%c: %s, session %s, %llu samples, steps %lld to %lld\n",
                'A' + i, run->path, run->facts->session,
                (unsigned long long)run->samples, (long long)run->first,
                (long long)run->last);
    }
    for (size_t i = 0; i < d->setting_count; i++) {
        const struct ge_diff_setting *s = &d->settings[i];

        fprintf(out, "%s: %s in A, %s in B\n", s->name,
                s->value[0] != NULL ? s->value[0] : "nothing",
                s->value[1] != NULL ? s->value[1] : "nothing");
    }
    for (int i = 0; i < 2; i++) {
        if (d->only_count[i] == 0)
            continue;
        fprintf(out, "only in %c, or of another shape: ", 'A' + i);
        for (size_t l = 0; l < d->only_count[i] && l < LAYERS_NAMED; l++)
            fprintf(out, "%s%s", l > 0 ? ", " : "",
                    d->run[i].facts->layers[d->only[i][l]].name);
        if (d->only_count[i] > LAYERS_NAMED)
            fprintf(out, " and %zu more", d->only_count[i] - LAYERS_NAMED);
        fputc('\n', out);
    }
    fputc('\n', out);
}

static void print_item(const struct ge_diff_item *item, int width, FILE *out)
{
    char text[32];

    fprintf(out, "%-*.*s  %-12s", width, width, layer_name(item),
            ge_diff_numbers[item->what].name);
    for (int i = 0; i < 2; i++) {
        const struct ge_average *run = &item->run[i];
        const bool bound =
            item->what != GE_DIFF_NOISE_SCALE || run->value > 0.0;

        fprintf(out, "  %9s",
                item->what == GE_DIFF_NOISE_SCALE
                    ? ge_show_scale(run->value, text, sizeof text)
                    : ge_show_number(run->value, text, sizeof text));
        fprintf(out, " %8s",
                bound ? ge_show_number(run->se, text, sizeof text) : "-");
    }
    fprintf(out, "  %9.3g  %+8.1f\n", item->run[1].value / item->run[0].value,
            item->z);
}

static void print_items(const struct ge_diff *d, size_t count, FILE *out)
{
    size_t width = strlen("layer");

    for (size_t i = 0; i < count; i++)
        width = ge_max_size(width, strlen(layer_name(&d->items[i])));
    width = ge_min_size(width, NAME_MOST);
    if (count > 0)
        fprintf(out, "%-*s  %-12s  %9s %8s  %9s %8s  %9s  %8s\n", (int)width,
                "layer", "number", "A", "+-", "B", "+-", "B/A", "in se");
    for (size_t i = 0; i < count; i++)
        print_item(&d->items[i], (int)width, out);
    if (count > 0)
        fputc('\n', out);
}

void ge_diff_print(const struct ge_diff *d, bool all, FILE *out)
{
    const double chance = erfc(sqrt(2.0)) * (double)d->count;

    print_runs(d, out);
    if (d->count == 0) {
        fprintf(out,
                "nothing can be compared: an error takes %d samples of each "
                "run at the least\n",
                GE_BLOCKS_LEAST);
        return;
    }
    print_items(d, all ? d->count : d->beyond, out);
    if (d->beyond == 0)
        fprintf(out,
                "no difference beyond 2 standard errors in %zu numbers; chance "
                "alone makes about %.1f\n",
                d->count, chance);
    else
        fprintf(out,
                "%zu of %zu numbers differ by more than 2 standard errors; "
                "chance alone makes about %.1f\n"
                "%zu of them by more than %.1f, which chance would reach in "
                "one of %zu numbers in 5 %% of such comparisons\n",
                d->beyond, d->count, chance, d->hold, d->strict, d->count);
    fprintf(out,
            "errors: jackknife over %d blocks of neighbouring samples; what "
            "drifts within a run counts as error\n",
            GE_BLOCKS);
}
