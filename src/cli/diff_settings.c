/*
 * In which settings two runs differ. Both configurations are what the program
 * itself printed into its logs: sections, keys, values, comments.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "diff.h"
#include "memory.h"
#include "try.h"

/* The next setting of a text: its full name and its value. */
struct setting {
    char name[128];
    char value[1024];
};

static bool next_setting(const char **text, char *section, size_t size,
                         struct setting *s)
{
    while (**text != '\0') {
        const char *line = *text, *colon = NULL;
        const size_t length = strcspn(line, "\n");
        const size_t space = strspn(line, " ");
        const char *from = NULL;

        *text += length + (line[length] == '\n' ? 1 : 0);
        colon = memchr(line, ':', length);
        if (colon == NULL || line[space] == '#')
            continue;
        from = colon + 1 + strspn(colon + 1, " ");
        if (from >= line + length) { /* "section:" */
            snprintf(section, size, "%.*s.", (int)(colon - line - (long)space),
                     line + space);
            continue;
        }
        snprintf(s->name, sizeof s->name, "%s%.*s", space > 0 ? section : "",
                 (int)(colon - line - (long)space), line + space);
        snprintf(s->value, sizeof s->value, "%.*s", (int)(line + length - from),
                 from);
        return true;
    }
    return false;
}

/* The value of a setting in a text; NULL if it is not there. */
static const char *find_value(const char *text, const char *name,
                              struct setting *found)
{
    char section[128] = "";

    while (next_setting(&text, section, sizeof section, found))
        if (strcmp(found->name, name) == 0)
            return found->value;
    return NULL;
}

static gradecho_status keep(struct ge_diff *d, const char *name, const char *a,
                            const char *b)
{
    gradecho_status status = GRADECHO_OK;
    const char *values[2] = {a, b};
    struct ge_diff_setting *more =
        realloc(d->settings, (d->setting_count + 1) * sizeof *more);
    struct ge_diff_setting *made = NULL;

    GE_FAIL_IF(more == NULL, GRADECHO_E_NOMEM, "no memory for settings");
    d->settings = more;
    made = &more[d->setting_count++];
    *made = (struct ge_diff_setting){.name = strdup(name)};
    for (int i = 0; i < 2; i++)
        made->value[i] = values[i] != NULL ? strdup(values[i]) : NULL;
    GE_FAIL_IF(made->name == NULL || (a != NULL && made->value[0] == NULL) ||
                   (b != NULL && made->value[1] == NULL),
               GRADECHO_E_NOMEM, "no memory for settings");
fail:
    return status;
}

/* A fact that may have changed within a run: "1024", "1024 to 2048". */
static void show_range(const double range[2], char *text, size_t size)
{
    if (!(range[0] <= range[1]))
        snprintf(text, size, "not known");
    else if (range[0] == range[1])
        snprintf(text, size, "%g", range[0]);
    else
        snprintf(text, size, "%g to %g", range[0], range[1]);
}

static gradecho_status keep_facts(struct ge_diff *d)
{
    gradecho_status status = GRADECHO_OK;
    static const char *const names[] = {"trainers", "replicas",
                                        "examples per replica", "version"};
    char values[4][2][96];

    for (int i = 0; i < 2; i++) {
        const struct ge_diff_run *run = &d->run[i];

        snprintf(values[0][i], sizeof values[0][i], "%lld",
                 (long long)run->facts->world_size);
        show_range(run->replicas, values[1][i], sizeof values[1][i]);
        show_range(run->batch, values[2][i], sizeof values[2][i]);
        snprintf(values[3][i], sizeof values[3][i], "%s", run->facts->version);
    }
    for (size_t f = 0; f < sizeof names / sizeof *names; f++)
        if (strcmp(values[f][0], values[f][1]) != 0)
            GE_TRY(keep(d, names[f], values[f][0], values[f][1]));
fail:
    return status;
}

gradecho_status ge_diff_settings(struct ge_diff *d)
{
    gradecho_status status = GRADECHO_OK;
    const char *configs[2] = {d->run[0].facts->config, d->run[1].facts->config};
    struct setting here, there;

    GE_TRY(keep_facts(d));
    for (int i = 0; i < 2; i++) {
        const char *text = configs[i];
        char section[128] = "";

        while (next_setting(&text, section, sizeof section, &here)) {
            const char *other = find_value(configs[1 - i], here.name, &there);

            if (other != NULL && (i == 1 || strcmp(here.value, other) == 0))
                continue;
            /* Where the log lies is no setting of the measurement. */
            if (strcmp(here.name, "log.path") == 0)
                continue;
            GE_TRY(keep(d, here.name, i == 0 ? here.value : other,
                        i == 0 ? other : here.value));
        }
    }
fail:
    return status;
}
