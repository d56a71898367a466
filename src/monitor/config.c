#include "config.h"

#include <errno.h>
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "memory.h"
#include "try.h"

enum kind { WHOLE, REAL, WORD, TEXT, GLOBS };

struct key {
    const char *name; /* group.key, or key */
    enum kind kind;
    size_t offset;
    double least, most;       /* WHOLE, REAL */
    const char *initial;      /* in YAML */
    const char *const *words; /* WORD: NULL-terminated */
    const char *help;
};

static const char *const placements[] = {"root", "spread", NULL};
static const char *const estimators[] = {"loo", "reverb", "both", NULL};
static const char *const weights[] = {"delta", "ols", NULL};
static const char *const losses[] = {"continue", "stop", NULL};

#define AT(field) offsetof(struct ge_config, field)

static const struct key keys[] = {
    {"session", TEXT, AT(session), 0, 63, "\"\"", NULL,
     "name that trainers and monitors share; empty: $GRADECHO_SESSION, else "
     "\"default\""},
    {"sample.every", WHOLE, AT(sample_every), 1, 1e9, "1", NULL,
     "steps between two samples: a step that it divides is handed over"},
    {"sample.echo_every", WHOLE, AT(sample_echo_every), 1, 1e9, "10", NULL,
     "samples between two echo measurements; the first sample is one"},
    {"layers.include", GLOBS, AT(layers_include), 0, 0, "[\"*\"]", NULL,
     "globs: layers whose echo is measured (the others get noise statistics)"},
    {"layers.exclude", GLOBS, AT(layers_exclude), 0, 0, "[]", NULL,
     "globs: layers taken out of layers.include"},
    {"layers.max_modes", WHOLE, AT(layers_max_modes), 1, 512, "16", NULL,
     "singular modes per layer"},
    {"svd.tolerance", REAL, AT(svd_tolerance), 1e-12, 0.1, "1e-3", NULL,
     "relative residual at which an iterative SVD stops; LAPACK's is exact"},
    {"svd.oversample", WHOLE, AT(svd_oversample), 0, 512, "8", NULL,
     "modes of a replica beyond max_modes that take part in the matching"},
    {"svd.placement", WORD, AT(svd_placement), 0, 0, "spread", placements,
     "who decomposes the mean gradient: rank 0, or all ranks by cost"},
    {"svd.threads", WHOLE, AT(svd_threads), 1, 256, "1", NULL,
     "BLAS threads of one monitor; more than one spin on the training's cores"},
    {"echo.estimator", WORD, AT(echo_estimator), 0, 0, "loo", estimators,
     "leave-one-out echo, the reverb cross-check, or both"},
    {"echo.partners", WHOLE, AT(echo_partners), 1, 4096, "8", NULL,
     "replicas whose gradients test whether another replica's mode is signal"},
    {"echo.replicas_max", WHOLE, AT(echo_replicas_max), 2, 4096, "64", NULL,
     "most replicas for reverb, which compares all pairs; beyond it is NaN"},
    {"noise.half_life", REAL, AT(noise_half_life), 0.01, 1e9, "20", NULL,
     "samples after which a sample weighs half in noise_scale_smooth"},
    {"fit.weights", WORD, AT(fit_weights), 0, 0, "delta", weights,
     "weights of the tau2 fit: by the delta method, or all equal"},
    {"log.path", TEXT, AT(log_path), 0, 4095, "\"gradecho.h5\"", NULL,
     "the log; --log goes first"},
    {"log.flush_every", WHOLE, AT(log_flush_every), 1, 1e6, "1", NULL,
     "samples between two commits to disk"},
    {"on_rank_loss", WORD, AT(on_rank_loss), 0, 0, "continue", losses,
     "a trainer that dies: go on with fewer replicas, or end the monitor"},
    {"timeout_seconds", REAL, AT(timeout_seconds), 1, 1e6, "300", NULL,
     "longest wait for another monitor before the job is given up"},
};
enum { KEYS = sizeof keys / sizeof *keys };

/* A struct's field by its offset in the table. */
#define FIELD(config, key, type) \
    ((type *)(void *)((char *)(config) + (key)->offset))
#define CONST_FIELD(config, key, type) \
    ((const type *)(const void *)((const char *)(config) + (key)->offset))

static void globs_clear(struct ge_globs *globs)
{
    for (size_t i = 0; i < globs->count; i++)
        free(globs->item[i]);
    free(globs->item);
    *globs = (struct ge_globs){0};
}

static const char *value_of(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE
               ? (const char *)node->data.scalar.value
               : "a list or mapping";
}

/* Where a message points: "origin:line". */
struct place {
    const char *origin;
    unsigned long line;
};

static gradecho_status set_number(struct ge_config *config,
                                  const struct key *key,
                                  const yaml_node_t *node, struct place at)
{
    gradecho_status status = GRADECHO_OK;
    const char *text = value_of(node);
    char *end = NULL;
    const double value = strtod(text, &end);

    GE_FAIL_IF(end == text || *end != '\0' ||
                   !(value >= key->least && value <= key->most) ||
                   (key->kind == WHOLE && value != floor(value)),
               GRADECHO_E_INPUT,
               "%s:%lu: %s must be a %s from %.16g to %.16g, not %s", at.origin,
               at.line, key->name,
               key->kind == WHOLE ? "whole number" : "number", key->least,
               key->most, text);
    if (key->kind == WHOLE)
        *FIELD(config, key, int64_t) = (int64_t)value;
    else
        *FIELD(config, key, double) = value;
fail:
    return status;
}

static gradecho_status set_word(struct ge_config *config, const struct key *key,
                                const yaml_node_t *node, struct place at)
{
    gradecho_status status = GRADECHO_OK;
    const char *text = value_of(node);
    char known[128] = "";

    for (int64_t i = 0; key->words[i] != NULL; i++) {
        if (strcmp(text, key->words[i]) == 0) {
            *FIELD(config, key, int64_t) = i;
            return GRADECHO_OK;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                 i > 0 ? ", " : "", key->words[i]);
    }
    GE_FAIL(GRADECHO_E_INPUT, "%s:%lu: %s must be one of %s, not %s", at.origin,
            at.line, key->name, known, text);
fail:
    return status;
}

static gradecho_status set_text(struct ge_config *config, const struct key *key,
                                const yaml_node_t *node, struct place at)
{
    gradecho_status status = GRADECHO_OK;
    char *copy = NULL;

    GE_FAIL_IF(node->type != YAML_SCALAR_NODE ||
                   (double)node->data.scalar.length > key->most ||
                   strlen(value_of(node)) != node->data.scalar.length,
               GRADECHO_E_INPUT,
               "%s:%lu: %s must be a text of at most %.0f bytes", at.origin,
               at.line, key->name, key->most);
    copy = strdup(value_of(node));
    GE_FAIL_IF(copy == NULL, GRADECHO_E_NOMEM, "no memory for %s", key->name);
    free(*FIELD(config, key, char *));
    *FIELD(config, key, char *) = copy;
fail:
    return status;
}

static gradecho_status set_globs(struct ge_config *config,
                                 const struct key *key,
                                 yaml_document_t *document,
                                 const yaml_node_t *node, struct place at)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_globs made = {0};

    GE_FAIL_IF(node->type != YAML_SEQUENCE_NODE, GRADECHO_E_INPUT,
               "%s:%lu: %s must be a list of globs, like [\"*weight\"]",
               at.origin, at.line, key->name);
    const yaml_node_item_t *first = node->data.sequence.items.start;
    const size_t count = (size_t)(node->data.sequence.items.top - first);

    made.item = ge_alloc(count, sizeof *made.item);
    GE_FAIL_IF(made.item == NULL, GRADECHO_E_NOMEM, "no memory for %s",
               key->name);
    for (; made.count < count; made.count++) {
        const yaml_node_t *item =
            yaml_document_get_node(document, first[made.count]);

        GE_FAIL_IF(item == NULL || item->type != YAML_SCALAR_NODE ||
                       item->data.scalar.length == 0 ||
                       strlen(value_of(item)) != item->data.scalar.length,
                   GRADECHO_E_INPUT,
                   "%s:%lu: %s must be a list of globs, each a text", at.origin,
                   at.line, key->name);
        made.item[made.count] = strdup(value_of(item));
        GE_FAIL_IF(made.item[made.count] == NULL, GRADECHO_E_NOMEM,
                   "no memory for %s", key->name);
    }
    globs_clear(FIELD(config, key, struct ge_globs));
    *FIELD(config, key, struct ge_globs) = made;
    return GRADECHO_OK;
fail:
    globs_clear(&made);
    return status;
}

static gradecho_status set_key(struct ge_config *config, const struct key *key,
                               yaml_document_t *document,
                               const yaml_node_t *node, struct place at)
{
    switch (key->kind) {
    case WHOLE:
    case REAL:
        return set_number(config, key, node, at);
    case WORD:
        return set_word(config, key, node, at);
    case TEXT:
        return set_text(config, key, node, at);
    case GLOBS:
        return set_globs(config, key, document, node, at);
    }
    return GRADECHO_E_ARG;
}

/* Is `name` a group, such as "sample"? */
static bool is_group(const char *name)
{
    const size_t length = strlen(name);

    for (size_t i = 0; i < KEYS; i++)
        if (strncmp(keys[i].name, name, length) == 0 &&
            keys[i].name[length] == '.')
            return true;
    return false;
}

static const struct key *find_key(const char *name)
{
    for (size_t i = 0; i < KEYS; i++)
        if (strcmp(keys[i].name, name) == 0)
            return &keys[i];
    return NULL;
}

/* Letters in common at the start and end: enough to guess what a mistyped key
 * was meant to be. */
static const char *nearest_key(const char *name)
{
    const char *best = keys[0].name;
    size_t most = 0;

    for (size_t i = 0; i < KEYS; i++) {
        const char *key = keys[i].name;
        size_t head = 0, tail = 0;
        const size_t a = strlen(name), b = strlen(key);

        while (head < a && head < b && name[head] == key[head])
            head++;
        while (tail < a - head && tail < b - head &&
               name[a - 1 - tail] == key[b - 1 - tail])
            tail++;
        if (head + tail > most) {
            most = head + tail;
            best = key;
        }
    }
    return best;
}

/* One mapping: the root (prefix "") or a group. `seen` [KEYS] finds what is
 * said twice. */
static gradecho_status read_mapping(struct ge_config *config,
                                    yaml_document_t *document,
                                    const yaml_node_t *mapping,
                                    const char *prefix, const char *origin,
                                    bool *seen)
{
    gradecho_status status = GRADECHO_OK;
    const yaml_node_pair_t *pair = mapping->data.mapping.pairs.start;

    for (; pair < mapping->data.mapping.pairs.top; pair++) {
        const yaml_node_t *name = yaml_document_get_node(document, pair->key);
        const yaml_node_t *value =
            yaml_document_get_node(document, pair->value);
        const struct place at = {origin, name->start_mark.line + 1};
        char full[128];

        snprintf(full, sizeof full, "%s%s%s", prefix,
                 prefix[0] != '\0' ? "." : "", value_of(name));
        const struct key *key = find_key(full);

        if (key == NULL && prefix[0] == '\0' && is_group(full)) {
            GE_FAIL_IF(value->type != YAML_MAPPING_NODE, GRADECHO_E_INPUT,
                       "%s:%lu: %s must hold its keys, indented under it",
                       origin, at.line, full);
            GE_TRY(read_mapping(config, document, value, full, origin, seen));
            continue;
        }
        GE_FAIL_IF(key == NULL, GRADECHO_E_INPUT,
                   "%s:%lu: unknown key %s; is %s meant?", origin, at.line,
                   full, nearest_key(full));
        GE_FAIL_IF(seen[key - keys], GRADECHO_E_INPUT, "%s:%lu: %s is repeated",
                   origin, at.line, full);
        seen[key - keys] = true;
        GE_TRY(set_key(config, key, document, value, at));
    }
fail:
    return status;
}

/* What a type and a range cannot say. */
static gradecho_status check(const struct ge_config *config, const char *origin)
{
    gradecho_status status = GRADECHO_OK;

    for (const char *c = config->session; *c != '\0'; c++)
        GE_FAIL_IF(strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                          "0123456789._-",
                          *c) == NULL,
                   GRADECHO_E_INPUT,
                   "%s: session may hold letters, digits, '.', '_', '-' only, "
                   "not %s",
                   origin, config->session);
fail:
    return status;
}

/* Load one YAML document and hand its root node to `read`. */
static gradecho_status load(const char *text, size_t length, const char *origin,
                            yaml_document_t *document)
{
    gradecho_status status = GRADECHO_OK;
    yaml_parser_t parser;

    GE_FAIL_IF(!yaml_parser_initialize(&parser), GRADECHO_E_NOMEM,
               "no memory to read %s", origin);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    if (!yaml_parser_load(&parser, document)) {
        status = GRADECHO_E_INPUT;
        ge_error("%s:%zu: not YAML: %s", origin, parser.problem_mark.line + 1,
                 parser.problem != NULL ? parser.problem : "unreadable");
    }
    yaml_parser_delete(&parser);
fail:
    return status;
}

gradecho_status ge_config_parse(struct ge_config *config, const char *text,
                                size_t length, const char *origin)
{
    gradecho_status status = GRADECHO_OK;
    yaml_document_t document;
    bool seen[KEYS] = {false};

    status = load(text, length, origin, &document);
    if (status < GRADECHO_OK)
        return status;
    const yaml_node_t *root = yaml_document_get_root_node(&document);

    if (root != NULL) { /* an empty file changes nothing */
        GE_FAIL_IF(
            root->type != YAML_MAPPING_NODE, GRADECHO_E_INPUT,
            "%s:1: must be keys and values, like \"sample: {every: 10}\"",
            origin);
        GE_TRY(read_mapping(config, &document, root, "", origin, seen));
    }
    GE_TRY(check(config, origin));
fail:
    yaml_document_delete(&document);
    return status;
}

static gradecho_status set_one(struct ge_config *config, const struct key *key,
                               const char *value, const char *origin)
{
    gradecho_status status = GRADECHO_OK;
    yaml_document_t document;

    status = load(value, strlen(value), origin, &document);
    if (status < GRADECHO_OK)
        return status;
    const yaml_node_t *root = yaml_document_get_root_node(&document);

    GE_FAIL_IF(root == NULL, GRADECHO_E_INPUT, "%s: %s has no value", origin,
               key->name);
    GE_TRY(set_key(config, key, &document, root, (struct place){origin, 1}));
fail:
    yaml_document_delete(&document);
    return status;
}

gradecho_status ge_config_set(struct ge_config *config, const char *assignment)
{
    gradecho_status status = GRADECHO_OK;
    const char *equals = strchr(assignment, '=');
    char name[128];

    GE_FAIL_IF(equals == NULL || equals == assignment ||
                   (size_t)(equals - assignment) >= sizeof name,
               GRADECHO_E_INPUT, "--set %s: must be key=value", assignment);
    memcpy(name, assignment, (size_t)(equals - assignment));
    name[equals - assignment] = '\0';
    const struct key *key = find_key(name);

    GE_FAIL_IF(key == NULL, GRADECHO_E_INPUT,
               "--set: unknown key %s; is %s meant?", name, nearest_key(name));
    GE_TRY(set_one(config, key, equals + 1, "--set"));
    GE_TRY(check(config, "--set"));
fail:
    return status;
}

gradecho_status ge_config_init(struct ge_config *config)
{
    gradecho_status status = GRADECHO_OK;

    *config = (struct ge_config){0};
    for (size_t i = 0; i < KEYS; i++)
        GE_TRY(set_one(config, &keys[i], keys[i].initial, "default"));
    return GRADECHO_OK;
fail:
    ge_config_fini(config);
    return status;
}

void ge_config_fini(struct ge_config *config)
{
    free(config->session);
    free(config->log_path);
    globs_clear(&config->layers_include);
    globs_clear(&config->layers_exclude);
    *config = (struct ge_config){0};
}

/* The character that begins at `c`; its length in bytes in *length. What
 * libyaml has read is valid UTF-8. */
static unsigned long character_at(const unsigned char *c, size_t *length)
{
    unsigned long code = *c;

    *length = *c < 0x80 ? 1 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : 4;
    if (*length > 1)
        code &= 0x7FU >> *length;
    for (size_t i = 1; i < *length; i++)
        code = code << 6 | (c[i] & 0x3FU);
    return code;
}

/* A double-quoted YAML scalar. Controls, line ends and byte order marks are
 * not themselves between quotes. */
static void print_text(const char *text, FILE *out)
{
    size_t length = 1;

    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c != '\0';
         c += length) {
        const unsigned long code = character_at(c, &length);

        if (code == '"' || code == '\\')
            fprintf(out, "\\%c", *c);
        else if (code < 0x20 || (code >= 0x7F && code < 0xA0) ||
                 code == 0x2028 || code == 0x2029 || code == 0xFEFF ||
                 code == 0xFFFE || code == 0xFFFF)
            fprintf(out, "\\u%04lX", code);
        else
            fwrite(c, 1, length, out);
    }
    fputc('"', out);
}

/* The shortest form that reads back as the same number. */
static void print_real(double value, FILE *out)
{
    char text[32];
    int digits = 1;

    do {
        snprintf(text, sizeof text, "%.*g", digits, value);
    } while (strtod(text, NULL) != value && digits++ < 17);
    if (value == floor(value) && fabs(value) < 1e15)
        snprintf(text, sizeof text, "%.0f", value);
    fputs(text, out);
}

static void print_value(const struct ge_config *config, const struct key *key,
                        FILE *out)
{
    const struct ge_globs *globs = NULL;

    switch (key->kind) {
    case WHOLE:
        fprintf(out, "%lld", (long long)*CONST_FIELD(config, key, int64_t));
        break;
    case REAL:
        print_real(*CONST_FIELD(config, key, double), out);
        break;
    case WORD:
        fputs(key->words[*CONST_FIELD(config, key, int64_t)], out);
        break;
    case TEXT:
        print_text(*CONST_FIELD(config, key, char *const), out);
        break;
    case GLOBS:
        globs = CONST_FIELD(config, key, struct ge_globs);
        fputc('[', out);
        for (size_t i = 0; i < globs->count; i++) {
            fputs(i > 0 ? ", " : "", out);
            print_text(globs->item[i], out);
        }
        fputc(']', out);
        break;
    }
}

static void print_help(const struct key *key, const char *indent, FILE *out)
{
    fprintf(out, "%s# %s", indent, key->help);
    if (key->kind == WHOLE || key->kind == REAL)
        fprintf(out, " (%g to %g)", key->least, key->most);
    for (size_t i = 0; key->kind == WORD && key->words[i] != NULL; i++)
        fprintf(out, "%s%s", i > 0 ? " | " : " (", key->words[i]);
    fputs(key->kind == WORD ? ")\n" : "\n", out);
}

bool ge_config_print(const struct ge_config *config, bool help, FILE *out)
{
    const char *group = "";
    size_t group_length = 0;

    for (size_t i = 0; i < KEYS; i++) {
        const char *dot = strchr(keys[i].name, '.');
        const char *leaf = dot != NULL ? dot + 1 : keys[i].name;
        const size_t length = (size_t)(leaf - keys[i].name);

        if (length != group_length ||
            strncmp(group, keys[i].name, length) != 0) {
            group = keys[i].name;
            group_length = length;
            if (length > 0)
                fprintf(out, "%.*s:\n", (int)length - 1, group);
        }
        if (help)
            print_help(&keys[i], length > 0 ? "  " : "", out);
        fprintf(out, "%s%s: ", length > 0 ? "  " : "", leaf);
        print_value(config, &keys[i], out);
        fputc('\n', out);
    }
    return ferror(out) == 0;
}

bool ge_globs_match(const struct ge_globs *globs, const char *name)
{
    for (size_t i = 0; i < globs->count; i++)
        if (fnmatch(globs->item[i], name, 0) == 0)
            return true;
    return false;
}
