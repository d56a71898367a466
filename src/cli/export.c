#include "export.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "suggest.h"
#include "try.h"

enum { BLOCK_BYTES = 4 << 20, BLOCK_ROWS = 256 };

/* Columns before the fields. */
enum { KIND_STEP, KIND_LAYER, KIND_MODE, KIND_REPLICA, KINDS };

static const char *const kind_names[KINDS] = {"step", "layer", "mode",
                                              "replica"};

struct exporter {
    const struct ge_export *what;
    const struct ge_log_facts *facts;
    const struct ge_dimensions *dims;
    char **names; /* [layers] as the format writes them; NULL: not asked for */
    double *values[GE_FIELDS]; /* of a block of rows */
    double *block;
    FILE *out;
};

/* A record: where in a block it lies. */
struct record {
    int kind;
    int64_t step;
    size_t row, layer, index; /* index: mode or replica */
};

static int kind_of(enum ge_shape shape)
{
    static const int kinds[GE_SHAPES] = {[GE_PER_STEP] = KIND_STEP,
                                         [GE_PER_PAIR] = KIND_STEP,
                                         [GE_PER_LAYER] = KIND_LAYER,
                                         [GE_PER_MODE] = KIND_MODE,
                                         [GE_PER_REPLICA] = KIND_REPLICA};

    return kinds[shape];
}

/* Columns that a field has: a pair has two, NAME_a and NAME_b. */
static size_t columns_of(enum ge_field field)
{
    return ge_fields[field].shape == GE_PER_PAIR ? 2 : 1;
}

static const char *column_suffix(enum ge_field field, size_t column)
{
    if (columns_of(field) == 1)
        return "";
    return column == 0 ? "_a" : "_b";
}

static double value_of(const struct exporter *e, const struct record *r,
                       enum ge_field field, size_t column)
{
    const enum ge_shape shape = ge_fields[field].shape;
    const double *row =
        e->values[field] + r->row * ge_shape_count(shape, e->dims);

    switch (shape) {
    case GE_PER_LAYER:
        return row[r->layer];
    case GE_PER_MODE:
        return row[r->layer * e->dims->modes + r->index];
    case GE_PER_REPLICA:
        return row[r->layer * e->dims->replicas + r->index];
    default:
        return row[column];
    }
}

static bool is_missing(enum ge_field field, double value)
{
    return isnan(value) || (ge_fields[field].type == GE_I64 && value < 0.0);
}

/* As many digits as give the stored number back. */
static void print_number(enum ge_field field, double value, FILE *out)
{
    switch (ge_fields[field].type) {
    case GE_I64:
        fprintf(out, "%.0f", value);
        break;
    case GE_F32:
        fprintf(out, "%.9g", value);
        break;
    case GE_F64:
        fprintf(out, "%.17g", value);
        break;
    }
}

/* Columns behind the fields: what a layer is. They do not change from sample to
 * sample, so that the log has them once. */
static const char *const layer_columns[] = {"rows", "cols"};
enum { LAYER_COLUMNS = sizeof layer_columns / sizeof *layer_columns };

static uint64_t layer_column(const struct exporter *e, size_t layer, size_t c)
{
    const struct ge_log_layer *of = &e->facts->layers[layer];

    return c == 0 ? of->rows : of->cols;
}

/* ---- CSV (RFC 4180): units, names, records ---- */

/* Always in quotes: a name may hold anything. */
static char *quote_csv(const char *text)
{
    char *made = ge_alloc(2 * strlen(text) + 3, 1), *to = made;

    if (made == NULL)
        return NULL;
    *to++ = '"';
    for (; *text != '\0'; text++) {
        if (*text == '"')
            *to++ = '"';
        *to++ = *text;
    }
    *to++ = '"';
    *to = '\0';
    return made;
}

static void print_csv_head(FILE *out)
{
    fputs("# units,1,,,", out);
    for (int f = 0; f < GE_FIELDS; f++)
        for (size_t c = 0; c < columns_of((enum ge_field)f); c++)
            fprintf(out, ",%s", ge_fields[f].units);
    for (size_t c = 0; c < LAYER_COLUMNS; c++)
        fputs(",1", out);
    fputs("\nrecord,step,layer,mode,replica", out);
    for (int f = 0; f < GE_FIELDS; f++)
        for (size_t c = 0; c < columns_of((enum ge_field)f); c++)
            fprintf(out, ",%s%s", ge_fields[f].name,
                    column_suffix((enum ge_field)f, c));
    for (size_t c = 0; c < LAYER_COLUMNS; c++)
        fprintf(out, ",%s", layer_columns[c]);
    fputc('\n', out);
}

static void print_csv(const struct exporter *e, const struct record *r)
{
    fprintf(e->out, "%s,%" PRId64 ",%s,", kind_names[r->kind], r->step,
            r->kind == KIND_STEP ? "" : e->names[r->layer]);
    if (r->kind == KIND_MODE)
        fprintf(e->out, "%zu", r->index + 1);
    fputc(',', e->out);
    if (r->kind == KIND_REPLICA)
        fprintf(e->out, "%zu", r->index);
    for (int f = 0; f < GE_FIELDS; f++) {
        const enum ge_field field = (enum ge_field)f;

        for (size_t c = 0; c < columns_of(field); c++) {
            fputc(',', e->out);
            if (kind_of(ge_fields[f].shape) != r->kind)
                continue;
            const double value = value_of(e, r, field, c);

            if (!is_missing(field, value))
                print_number(field, value, e->out);
        }
    }
    for (size_t c = 0; c < LAYER_COLUMNS; c++) {
        fputc(',', e->out);
        if (r->kind == KIND_LAYER)
            fprintf(e->out, "%" PRIu64, layer_column(e, r->layer, c));
    }
    fputc('\n', e->out);
}

/* ---- JSON Lines: an object that describes the columns, then records ---- */

static char *quote_json(const char *text)
{
    json_t *string = json_string(text);
    char *made = string != NULL ? json_dumps(string, JSON_ENCODE_ANY) : NULL;

    json_decref(string);
    return made;
}

/* Well-formed as far as its bytes go; jansson refuses the rest, too. */
static bool is_utf8(const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at != '\0') {
        int more = 0;

        if (*at >= 0xf8 || (*at >= 0x80 && *at < 0xc0))
            return false;
        more = *at < 0x80 ? 0 : *at < 0xe0 ? 1 : *at < 0xf0 ? 2 : 3;
        for (at++; more > 0; more--)
            if ((*at++ & 0xc0) != 0x80)
                return false;
    }
    return true;
}

static gradecho_status print_jsonl_head(const struct exporter *e,
                                        const struct ge_log_facts *facts)
{
    gradecho_status status = GRADECHO_OK;
    json_t *columns = json_object();
    json_t *head = NULL;
    bool printed = false, whole = true;

    for (int f = 0; f < GE_FIELDS; f++) {
        const struct ge_field_info *info = &ge_fields[f];

        for (size_t c = 0; c < columns_of((enum ge_field)f); c++) {
            char name[128];

            snprintf(name, sizeof name, "%s%s", info->name,
                     column_suffix((enum ge_field)f, c));
            whole = whole && json_object_set_new(
                                 columns, name,
                                 json_pack("{s:s, s:s, s:s}", "record",
                                           kind_names[kind_of(info->shape)],
                                           "units", info->units, "long_name",
                                           info->long_name)) == 0;
        }
    }
    for (size_t c = 0; c < LAYER_COLUMNS; c++)
        whole = whole &&
                json_object_set_new(columns, layer_columns[c],
                                    json_pack("{s:s, s:s, s:s}", "record",
                                              kind_names[KIND_LAYER], "units",
                                              "1", "long_name",
                                              "of the layer as a matrix")) == 0;
    head = json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:I, s:o}", "record",
                     "head", "schema", GE_SCHEMA_VERSION, "session",
                     facts->session, "created", facts->created, "version",
                     facts->version, "config", facts->config, "world_size",
                     (json_int_t)facts->world_size, "columns", columns);
    printed = head != NULL && whole &&
              json_dumpf(head, e->out, JSON_COMPACT) == 0 &&
              fputc('\n', e->out) != EOF;
    json_decref(head);
    GE_FAIL_IF(!is_utf8(facts->session) || !is_utf8(facts->created) ||
                   !is_utf8(facts->version) || !is_utf8(facts->config),
               GRADECHO_E_INPUT,
               "%s: its session or configuration is not UTF-8", e->what->path);
    GE_FAIL_IF(!printed && ferror(e->out) == 0, GRADECHO_E_NOMEM,
               "%s: no memory for its columns", e->what->path);
fail:
    return status;
}

static void print_jsonl(const struct exporter *e, const struct record *r)
{
    fprintf(e->out, "{\"record\":\"%s\",\"step\":%" PRId64, kind_names[r->kind],
            r->step);
    if (r->kind != KIND_STEP)
        fprintf(e->out, ",\"layer\":%s", e->names[r->layer]);
    if (r->kind == KIND_MODE)
        fprintf(e->out, ",\"mode\":%zu", r->index + 1);
    if (r->kind == KIND_REPLICA)
        fprintf(e->out, ",\"replica\":%zu", r->index);
    for (int f = 0; f < GE_FIELDS; f++) {
        const enum ge_field field = (enum ge_field)f;

        if (kind_of(ge_fields[f].shape) != r->kind)
            continue;
        for (size_t c = 0; c < columns_of(field); c++) {
            const double value = value_of(e, r, field, c);

            fprintf(e->out, ",\"%s%s\":", ge_fields[f].name,
                    column_suffix(field, c));
            if (is_missing(field, value) || isinf(value))
                fputs("null", e->out);
            else
                print_number(field, value, e->out);
        }
    }
    for (size_t c = 0; c < LAYER_COLUMNS && r->kind == KIND_LAYER; c++)
        fprintf(e->out, ",\"%s\":%" PRIu64, layer_columns[c],
                layer_column(e, r->layer, c));
    fputs("}\n", e->out);
}

/* ---- the rows ---- */

static bool has_value(const struct exporter *e, const struct record *r)
{
    for (int f = 0; f < GE_FIELDS; f++)
        if (kind_of(ge_fields[f].shape) == r->kind &&
            !is_missing((enum ge_field)f, value_of(e, r, (enum ge_field)f, 0)))
            return true;
    return false;
}

/* Modes and replicas of which nothing is known have no record. */
static void print_record(const struct exporter *e, const struct record *r)
{
    if (r->kind >= KIND_MODE && !has_value(e, r))
        return;
    if (e->what->format == GE_EXPORT_CSV)
        print_csv(e, r);
    else
        print_jsonl(e, r);
}

static void print_row(const struct exporter *e, size_t row, int64_t step)
{
    struct record r = {.kind = KIND_STEP, .step = step, .row = row};

    print_record(e, &r);
    for (r.layer = 0; r.layer < e->dims->layers; r.layer++) {
        if (e->names[r.layer] == NULL)
            continue;
        r.kind = KIND_LAYER;
        print_record(e, &r);
        r.kind = KIND_MODE;
        for (r.index = 0; r.index < e->dims->modes; r.index++)
            print_record(e, &r);
        r.kind = KIND_REPLICA;
        for (r.index = 0; r.index < e->dims->replicas; r.index++)
            print_record(e, &r);
    }
}

static gradecho_status print_rows(struct exporter *e, ge_log_reader *reader,
                                  uint64_t rows, uint64_t most)
{
    gradecho_status status = GRADECHO_OK;
    int64_t steps[BLOCK_ROWS];

    for (uint64_t first = 0; first < rows && ferror(e->out) == 0;) {
        const uint64_t count = rows - first < most ? rows - first : most;

        GE_TRY(ge_log_steps(reader, first, count, steps));
        if (steps[count - 1] >= e->what->since)
            for (int f = 0; f < GE_FIELDS; f++)
                GE_TRY(ge_log_read(reader, (enum ge_field)f, first, count,
                                   e->values[f]));
        for (size_t r = 0; r < count && ferror(e->out) == 0; r++)
            if (steps[r] >= e->what->since)
                print_row(e, r, steps[r]);
        first += count;
    }
fail:
    return status;
}

static gradecho_status quote_names(struct exporter *e,
                                   const struct ge_log_facts *facts)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_near near = {.glob = e->what->layer};
    char there[512];
    size_t matched = 0;

    e->names = ge_alloc(e->dims->layers, sizeof *e->names);
    GE_FAIL_IF(e->names == NULL, GRADECHO_E_NOMEM, "no memory for %zu layers",
               e->dims->layers);
    for (size_t l = 0; l < e->dims->layers; l++) {
        const char *name = facts->layers[l].name;

        if (e->what->layer != NULL && fnmatch(e->what->layer, name, 0) != 0) {
            ge_near_offer(&near, name);
            continue;
        }
        matched++;
        GE_FAIL_IF(e->what->format == GE_EXPORT_JSONL && !is_utf8(name),
                   GRADECHO_E_INPUT, "%s: the name of layer %zu is not UTF-8",
                   e->what->path, l);
        e->names[l] = e->what->format == GE_EXPORT_CSV ? quote_csv(name)
                                                       : quote_json(name);
        GE_FAIL_IF(e->names[l] == NULL, GRADECHO_E_NOMEM,
                   "%s: no memory for the name of layer %zu", e->what->path, l);
    }
    GE_FAIL_IF(matched == 0, GRADECHO_E_INPUT, "%s: no layer matches %s; %s",
               e->what->path, e->what->layer,
               ge_near_text(&near, there, sizeof there));
fail:
    return status;
}

/* Room for a block of rows; *most: how many these are. */
static gradecho_status make_room(struct exporter *e, uint64_t *most)
{
    gradecho_status status = GRADECHO_OK;
    size_t width = 0, rows = 0;
    double *at = NULL;

    for (int f = 0; f < GE_FIELDS; f++)
        width += ge_shape_count(ge_fields[f].shape, e->dims);
    rows = ge_min_size(ge_max_size(BLOCK_BYTES / (width * sizeof(double)), 1),
                       BLOCK_ROWS);
    e->block = at = ge_alloc(rows * width, sizeof(double));
    GE_FAIL_IF(at == NULL, GRADECHO_E_NOMEM, "no memory for %zu rows of %zu",
               rows, width);
    for (int f = 0; f < GE_FIELDS; f++) {
        e->values[f] = at;
        at += rows * ge_shape_count(ge_fields[f].shape, e->dims);
    }
    *most = rows;
fail:
    return status;
}

gradecho_status ge_export(ge_log_reader *reader, const struct ge_export *what,
                          FILE *out)
{
    gradecho_status status = GRADECHO_OK;
    const struct ge_log_facts *facts = ge_log_reader_facts(reader);
    struct exporter e = {
        .what = what, .facts = facts, .dims = &facts->dims, .out = out};
    uint64_t rows = 0, most = 0;

    GE_TRY(quote_names(&e, facts));
    GE_TRY(make_room(&e, &most));
    GE_TRY(ge_log_refresh(reader, &rows));
    if (what->format == GE_EXPORT_CSV)
        print_csv_head(out);
    else
        GE_TRY(print_jsonl_head(&e, facts));
    GE_TRY(print_rows(&e, reader, rows, most));
fail:
    for (size_t l = 0; e.names != NULL && l < e.dims->layers; l++)
        free(e.names[l]);
    free(e.names);
    free(e.block);
    return status;
}
