#include "suggest.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "memory.h"

static int folded(const char *text, size_t at)
{
    return tolower((unsigned char)text[at]);
}

size_t ge_edit_distance(const char *a, const char *b)
{
    const size_t rows = strnlen(a, GE_SUGGEST_MAX);
    const size_t cols = strnlen(b, GE_SUGGEST_MAX);
    size_t line[3][GE_SUGGEST_MAX + 1];

    for (size_t j = 0; j <= cols; j++)
        line[0][j] = j;
    for (size_t i = 1; i <= rows; i++) {
        size_t *now = line[i % 3];
        const size_t *last = line[(i + 2) % 3], *before = line[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= cols; j++) {
            const size_t wrong = folded(a, i - 1) != folded(b, j - 1);

            now[j] = ge_min_size(last[j - 1] + wrong,
                                 ge_min_size(last[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && folded(a, i - 1) == folded(b, j - 2) &&
                folded(a, i - 2) == folded(b, j - 1))
                now[j] = ge_min_size(now[j], before[j - 2] + 1);
        }
    }
    return line[rows % 3][cols];
}

void ge_suggest_at(struct ge_suggestion *s, const char *candidate,
                   size_t distance)
{
    if (s->best[0] != '\0' && distance >= s->distance)
        return;
    s->distance = distance;
    snprintf(s->best, sizeof s->best, "%s", candidate);
}

void ge_suggest(struct ge_suggestion *s, const char *candidate)
{
    const size_t length = strlen(s->word);
    const size_t distance = ge_edit_distance(s->word, candidate);

    ge_suggest_at(s, candidate,
                  length > 2 && distance > 1 &&
                          strncasecmp(s->word, candidate, length) == 0
                      ? 1
                      : distance);
}

const char *ge_suggested(const struct ge_suggestion *s)
{
    const size_t length = strlen(s->word);

    return s->best[0] != '\0' && s->distance <= 1 + length / 3 &&
                   s->distance < ge_max_size(length, 1)
               ? s->best
               : NULL;
}

/* The letters of a glob: what it stands for besides its wild cards. */
static void letters_of(const char *glob, char *letters, size_t size)
{
    size_t length = 0;

    for (; *glob != '\0' && length + 1 < size; glob++)
        if (strchr("*?[]!\\", *glob) == NULL)
            letters[length++] = *glob;
    letters[length] = '\0';
}

static size_t distance_to(const char *letters, const char *name)
{
    const size_t length = strlen(letters), all = strlen(name);
    size_t least = ge_edit_distance(letters, name);
    char head[GE_SUGGEST_MAX] = "";

    if (length >= all)
        return least;
    snprintf(head, sizeof head, "%.*s", (int)length, name);
    least = ge_min_size(least, ge_edit_distance(letters, head));
    return ge_min_size(least, ge_edit_distance(letters, name + all - length));
}

void ge_near_offer(struct ge_near *near, const char *name)
{
    enum { MOST = sizeof near->name / sizeof *near->name };
    char letters[GE_SUGGEST_MAX] = "";
    size_t at = near->count;

    letters_of(near->glob, letters, sizeof letters);
    const size_t distance = distance_to(letters, name);

    while (at > 0 && near->distance[at - 1] > distance) {
        if (at < MOST) {
            near->name[at] = near->name[at - 1];
            near->distance[at] = near->distance[at - 1];
        }
        at--;
    }
    if (at == MOST)
        return;
    near->name[at] = name;
    near->distance[at] = distance;
    near->count = ge_min_size(near->count + 1, MOST);
}

const char *ge_near_text(const struct ge_near *near, char *text, size_t size)
{
    snprintf(text, size, "there is %s", near->count == 0 ? "none" : "");
    for (size_t i = 0; i < near->count; i++) {
        const size_t used = strlen(text);

        snprintf(text + used, size - used, "%s%s", i > 0 ? ", " : "",
                 near->name[i]);
    }
    for (char *c = text; *c != '\0'; c++) /* a message is one line */
        *c = iscntrl((unsigned char)*c) ? '?' : *c;
    return text;
}
