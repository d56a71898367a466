/*
 * What the live view looks like. Every text is cut to the place it has: a
 * terminal of one column is no error.
 */
#include <math.h>
#include <ncurses.h>
#include <string.h>
#include <time.h>
#include <wchar.h>
#include <wctype.h>

#include "follow_view.h"
#include "memory.h"
#include "verdict.h"

enum { COLOUR_ALARM = 1, COLOUR_CAUTION, COLOUR_LIVE }; /* pairs; see screen */

/* Text at a place, at most `width` columns; what the terminal cannot show is a
 * question mark, so that no name moves the cursor. */
static void put(int y, int x, int width, const char *text)
{
    mbstate_t state = {0};
    int used = 0;

    if (y < 0 || y >= LINES || x >= COLS || move(y, x) == ERR)
        return;
    width = width < COLS - x ? width : COLS - x;
    while (*text != '\0') {
        wchar_t wide = 0;
        const size_t got = mbrtowc(&wide, text, strlen(text), &state);
        const bool good = got != (size_t)-1 && got != (size_t)-2;
        const int columns = good ? wcwidth(wide) : -1;

        used += columns < 0 ? 1 : columns;
        if (used > width)
            break;
        if (columns < 0)
            (void)addch('?');
        else
            (void)addnstr(text, (int)got);
        if (!good)
            state = (mbstate_t){0};
        text += good ? got : 1;
    }
}

static void put_in(int y, int colour, bool with_colour, const char *text)
{
    if (with_colour)
        (void)attron(COLOR_PAIR(colour));
    put(y, 0, COLS, text);
    if (with_colour)
        (void)attroff(COLOR_PAIR(colour));
}

/* ---- the head: what it is, how it is, what stands out ---- */

static const char *state_text(const struct ge_follow *f)
{
    static const char *const texts[] = {"waiting", "live",
                                        "its writer was killed", "closed"};

    return texts[f->state];
}

/* Bytes of `text` that go on a line, broken at a space where there is one. */
static size_t line_length(const char *text, size_t width)
{
    size_t length = ge_min_size(strlen(text), width);

    if (text[length] == '\0')
        return length;
    for (size_t at = length; at > width / 2; at--)
        if (text[at] == ' ')
            return at;
    return length;
}

/* At most `most` lines. */
static int draw_verdicts(const struct ge_view *view, int y, int most)
{
    static const char *const marks[] = {"  ", "* ", "! "};
    struct ge_verdict list[GE_VERDICTS_MAX];
    const size_t count = ge_verdicts(&view->follow.digest, list);
    const size_t width = COLS > 4 ? (size_t)COLS - 2 : 2;
    const int end = y + most;

    for (size_t i = 0; i < count && y < end; i++) {
        const char *mark = marks[list[i].severity];

        for (const char *at = list[i].text; *at != '\0' && y < end;) {
            const size_t length = line_length(at, width);
            char text[sizeof list[i].text + 8];

            snprintf(text, sizeof text, "%s%.*s", mark, (int)length, at);
            put_in(y++,
                   list[i].severity == GE_ALARM ? COLOUR_ALARM : COLOUR_CAUTION,
                   view->colour && list[i].severity != GE_NOTE, text);
            mark = "  ";
            at += length;
            at += *at == ' ' ? 1 : 0;
        }
    }
    return y;
}

/* Returns the first line below. */
static int draw_head(const struct ge_view *view)
{
    const struct ge_follow *f = &view->follow;
    const struct ge_digest *d = &f->digest;
    char text[512], loss[32], scale[32];
    int y = 0;

    (void)attron(A_BOLD);
    snprintf(text, sizeof text, "%s  %s", state_text(f), f->question->path);
    if (f->loaded)
        snprintf(text, sizeof text, "%s  step %lld  %llu samples  %s",
                 state_text(f), d->row.step, (unsigned long long)d->rows,
                 f->question->path);
    put_in(y++, f->state == GE_FOLLOW_LIVE ? COLOUR_LIVE : COLOUR_CAUTION,
           view->colour, text);
    (void)attroff(A_BOLD);
    if (f->reason[0] != '\0')
        put(y++, 0, COLS, f->reason);
    if (!f->loaded || LINES < 8)
        return y;
    snprintf(text, sizeof text,
             "loss %s  noise scale %s for a batch of %.0f x %.0f",
             ge_show_number(d->row.values[GE_LOSS][0], loss, sizeof loss),
             ge_show_scale(d->model_scale, scale, sizeof scale),
             d->row.values[GE_REPLICAS][0], d->row.values[GE_BATCH_SIZE][0]);
    put(y++, 0, COLS, text);
    ge_view_health(view, (double)time(NULL), COLS < 60, text, sizeof text);
    put(y++, 0, COLS, text);
    if (d->row.values[GE_ALARMS][0] > 0.0) {
        char names[256];

        snprintf(
            text, sizeof text, "! alarms: %s",
            ge_alarm_names(d->row.values[GE_ALARMS][0], names, sizeof names));
        put_in(y++, COLOUR_ALARM, view->colour, text);
    }
    return draw_verdicts(view, y, LINES < 12 ? 1 : LINES < 30 ? 4 : 8);
}

/* ---- the layers ---- */

/* Columns, from the left; a width of 0: no room for it. */
struct columns {
    int name, scale, scale_spark, knee, knee_spark, signal, echo, bars;
};

static struct columns divide(int width)
{
    struct columns c = {.name = 12, .scale = 9, .echo = 5, .bars = 8};

    if (width >= 72) {
        c.scale_spark = c.knee_spark = 8;
        c.knee = 8;
        c.signal = 3;
        c.bars = 12;
    }
    if (width >= 110) {
        c.scale_spark = c.knee_spark = 16;
        c.bars = 16;
    }
    const int rest = width - (c.name + c.scale + c.scale_spark + c.knee +
                              c.knee_spark + c.signal + c.echo + c.bars + 8);

    c.name += rest > 0 ? (rest < 28 ? rest : 28) : 0;
    return c;
}

/* One cell, then a gap; `right`: numbers. Returns where the next one starts. */
static int cell(int y, int x, int width, bool right, const char *text)
{
    int pad = 0;

    if (width == 0)
        return x;
    if (right && (int)strlen(text) < width)
        pad = width - (int)strlen(text);
    put(y, x + pad, width - pad, text);
    return x + width + 1;
}

static void draw_heads(int y, const struct columns *c)
{
    int x = 0;

    (void)attron(A_UNDERLINE);
    (void)mvhline(y, 0, ' ', COLS);
    x = cell(y, x, c->name, false, "layer");
    x = cell(y, x, c->scale, true, "noise sc.");
    x = cell(y, x, c->scale_spark, false, "trend");
    x = cell(y, x, c->knee, true, "knee");
    x = cell(y, x, c->knee_spark, false, "trend");
    x = cell(y, x, c->signal, true, "sig");
    x = cell(y, x, c->echo, true, "echo");
    (void)cell(y, x, c->bars, false, "modes 1, 2..");
    (void)attroff(A_UNDERLINE);
}

static void draw_layer_line(const struct ge_view *view, int y, size_t l,
                            const struct columns *c, size_t shared)
{
    const struct ge_follow *f = &view->follow;
    const struct ge_digest *d = &f->digest;
    const size_t layers = d->row.dims.layers, modes = d->row.dims.modes;
    const double *echo = d->echo.values[GE_ECHO] + l * modes;
    char text[3 * GE_FOLLOW_HISTORY + 1];
    int x = 0;

    x = cell(y, x, c->name, false, f->facts.layers[l].name + shared);
    x = cell(y, x, c->scale, true,
             ge_show_scale(d->noise_scale[l], text, sizeof text));
    ge_view_spark(f->scales + l, f->history, layers, (size_t)c->scale_spark,
                  view->unicode, text);
    x = cell(y, x, c->scale_spark, false, text);
    x = cell(y, x, c->knee, true,
             ge_show_number(d->row.values[GE_EDGE][l], text, sizeof text));
    ge_view_spark(f->edges + l, f->history, layers, (size_t)c->knee_spark,
                  view->unicode, text);
    x = cell(y, x, c->knee_spark, false, text);
    if (isnan(echo[0]))
        return;
    snprintf(text, sizeof text, "%.0f", d->echo.values[GE_SIGNAL_MODES][l]);
    x = cell(y, x, c->signal, true, text);
    snprintf(text, sizeof text, "%.2f", echo[0]);
    x = cell(y, x, c->echo, true, text);
    ge_view_bars(echo, modes, (size_t)c->bars, view->unicode, text);
    (void)cell(y, x, c->bars, false, text);
}

static void draw_list(struct ge_view *view, int y)
{
    const struct columns c = divide(COLS);
    const size_t place = ge_view_place(view);
    const size_t shared = ge_view_shared_prefix(view, (size_t)c.name);
    const int room = LINES - 1 - (y + 1);

    if (room < 1)
        return;
    draw_heads(y++, &c);
    if (view->count == 0)
        put(y, 0, COLS, "no layer passes the filter");
    if (place < view->top)
        view->top = place;
    if (place >= view->top + (size_t)room)
        view->top = place - (size_t)room + 1;
    if (view->count <= (size_t)room)
        view->top = 0;
    for (size_t i = 0; i < (size_t)room && view->top + i < view->count; i++) {
        const size_t at = view->top + i;

        if (at == place)
            (void)attron(A_REVERSE);
        if (at == place)
            (void)mvhline(y + (int)i, 0, ' ', COLS);
        draw_layer_line(view, y + (int)i, view->order[at], &c, shared);
        (void)attroff(A_REVERSE);
    }
}

/* ---- one layer: echoes against the laws ---- */

static const struct {
    enum ge_field field;
    const char *mark, *name;
} laws[] = {{GE_ECHO_HILL, ".", "hill"},
            {GE_ECHO_EXACT, "-", "exact (isotropic)"},
            {GE_ECHO_MODE, "x", "mode-resolved"}};
enum { LAWS = sizeof laws / sizeof *laws, AXIS = 5 };

/* Line of an echo in a plot whose lines are top .. top + height - 1. */
static int line_of(double echo, int top, int height)
{
    return top + height - 1 -
           (int)lrint(fmin(fmax(echo, 0.0), 1.0) * (height - 1));
}

static void draw_mode(const struct ge_view *view, size_t at, int x, int top,
                      int height)
{
    const struct ge_row *row = &view->follow.digest.echo;
    const double echo = row->values[GE_ECHO][at];
    const double error = row->values[GE_ECHO_SE][at];

    if (!isnan(echo) && !isnan(error))
        for (int y = line_of(echo + error, top, height);
             y <= line_of(echo - error, top, height); y++)
            put(y, x, 1, view->unicode ? "│" : "|");
    for (int i = 0; i < LAWS; i++)
        if (!isnan(row->values[laws[i].field][at]))
            put(line_of(row->values[laws[i].field][at], top, height), x, 1,
                laws[i].mark);
    if (!isnan(echo))
        put(line_of(echo, top, height), x, 1, view->unicode ? "●" : "o");
}

static void draw_plot(const struct ge_view *view, int top, int height)
{
    const struct ge_row *row = &view->follow.digest.echo;
    const size_t modes = row->dims.modes;
    const int step =
        (int)ge_max_size((size_t)(COLS > AXIS ? COLS - AXIS : 1) / modes, 1);

    put(top, 0, AXIS, "1.0");
    if (height % 2 == 1)
        put(top + height / 2, 0, AXIS, "0.5");
    put(top + height - 1, 0, AXIS, "0.0");
    for (int y = top; y < top + height; y++)
        put(y, AXIS - 1, 1, view->unicode ? "┤" : "|");
    for (size_t k = 0; k < modes; k++) {
        const size_t at = view->chosen * modes + k;
        const int x = AXIS + (int)k * (step < 8 ? step : 8);
        char text[24];

        if (isnan(row->values[GE_S_MEAN][at]) || x >= COLS)
            break;
        draw_mode(view, at, x, top, height);
        snprintf(text, sizeof text, "%zu", k + 1);
        if (step >= 3 || k % 4 == 0)
            put(top + height, x, 8, text);
    }
}

static void draw_layer(const struct ge_view *view)
{
    const struct ge_digest *d = &view->follow.digest;
    const size_t l = view->chosen;
    const struct ge_log_layer *layer = &view->follow.facts.layers[l];
    char text[512], scale[32], error[32], knee[32];
    const int height =
        LINES - 6 - (LINES % 2 == 1 ? 0 : 1); /* odd: 0.5 has a line */

    snprintf(text, sizeof text, "%s  %llu x %llu  step %lld", layer->name,
             (unsigned long long)layer->rows, (unsigned long long)layer->cols,
             d->row.step);
    (void)attron(A_BOLD);
    put(0, 0, COLS, text);
    (void)attroff(A_BOLD);
    snprintf(text, sizeof text, "noise scale %s (+- %s in one sample)  knee %s",
             ge_show_scale(d->noise_scale[l], scale, sizeof scale),
             ge_show_number(d->row.values[GE_NOISE_SCALE_SE][l], error,
                            sizeof error),
             ge_show_number(d->row.values[GE_EDGE][l], knee, sizeof knee));
    put(1, 0, COLS, text);
    if (d->echo.step < 0 ||
        isnan(d->echo.values[GE_ECHO][l * d->row.dims.modes])) {
        put(3, 0, COLS,
            "no echo of this layer: not selected, a vector, or "
            "none measured yet");
        return;
    }
    snprintf(text, sizeof text, "echo of step %lld: %s measured",
             d->echo_step[l], view->unicode ? "●" : "o");
    for (int i = 0; i < LAWS; i++) {
        const size_t used = strlen(text);

        snprintf(text + used, sizeof text - used, "  %s %s", laws[i].mark,
                 laws[i].name);
    }
    put(2, 0, COLS, text);
    if (height >= 2)
        draw_plot(view, 3, height);
}

/* ---- the whole ---- */

static void draw_foot(const struct ge_view *view)
{
    char text[256];

    if (view->typing)
        snprintf(text, sizeof text, "filter: %s_", view->filter);
    else if (view->opened)
        snprintf(text, sizeof text, "Esc back  up/down other layer  q quit");
    else
        snprintf(text, sizeof text,
                 "q quit  s sort: %s  / filter%s%s  Enter open  up/down",
                 ge_view_sort_name(view->sort),
                 view->filter[0] != '\0' ? ": " : "", view->filter);
    (void)attron(A_DIM);
    put(LINES - 1, 0, COLS - 1, text);
    (void)attroff(A_DIM);
}

void ge_view_draw(struct ge_view *view)
{
    (void)erase();
    if (view->opened && view->follow.loaded) {
        draw_layer(view);
    } else {
        const int y = draw_head(view);

        if (view->follow.loaded)
            draw_list(view, y);
    }
    draw_foot(view);
    (void)refresh();
}
