/*
 * Configuration from YAML text, by the table of keys.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "config_private.h"
#include "memory.h"
#include "suggest.h"
#include "try.h"

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
                                  const struct ge_key *key,
                                  const yaml_node_t *node, struct place at)
{
    gradecho_status status = GRADECHO_OK;
    const char *text = value_of(node);
    char *end = NULL;
    const double value = strtod(text, &end);

    GE_FAIL_IF(end == text || *end != '\0' ||
                   !(value >= key->least && value <= key->most) ||
                   (key->kind == GE_WHOLE && value != floor(value)),
               GRADECHO_E_INPUT,
               "%s:%lu: %s must be a %s from %.16g to %.16g, not %s", at.origin,
               at.line, key->name,
               key->kind == GE_WHOLE ? "whole number" : "number", key->least,
               key->most, text);
    if (key->kind == GE_WHOLE)
        *GE_FIELD(config, key, int64_t) = (int64_t)value;
    else
        *GE_FIELD(config, key, double) = value;
fail:
    return status;
}

static gradecho_status set_word(struct ge_config *config,
                                const struct ge_key *key,
                                const yaml_node_t *node, struct place at)
{
    gradecho_status status = GRADECHO_OK;
    const char *text = value_of(node);
    struct ge_suggestion near = {.word = text};
    char known[128] = "";

    for (int64_t i = 0; key->words[i] != NULL; i++) {
        if (strcmp(text, key->words[i]) == 0) {
            *GE_FIELD(config, key, int64_t) = i;
            return GRADECHO_OK;
        }
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                 i > 0 ? ", " : "", key->words[i]);
        ge_suggest(&near, key->words[i]);
    }
    const char *meant = ge_suggested(&near);

    GE_FAIL(GRADECHO_E_INPUT, "%s:%lu: %s must be one of %s, not %s%s%s%s",
            at.origin, at.line, key->name, known, text,
            meant != NULL ? "; is " : "", meant != NULL ? meant : "",
            meant != NULL ? " meant?" : "");
fail:
    return status;
}

static gradecho_status set_text(struct ge_config *config,
                                const struct ge_key *key,
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
    free(*GE_FIELD(config, key, char *));
    *GE_FIELD(config, key, char *) = copy;
fail:
    return status;
}

static gradecho_status set_globs(struct ge_config *config,
                                 const struct ge_key *key,
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
    ge_globs_clear(GE_FIELD(config, key, struct ge_globs));
    *GE_FIELD(config, key, struct ge_globs) = made;
    return GRADECHO_OK;
fail:
    ge_globs_clear(&made);
    return status;
}

static gradecho_status set_key(struct ge_config *config,
                               const struct ge_key *key,
                               yaml_document_t *document,
                               const yaml_node_t *node, struct place at)
{
    switch (key->kind) {
    case GE_WHOLE:
    case GE_REAL:
        return set_number(config, key, node, at);
    case GE_WORD:
        return set_word(config, key, node, at);
    case GE_TEXT:
        return set_text(config, key, node, at);
    case GE_GLOBS:
        return set_globs(config, key, document, node, at);
    }
    return GRADECHO_E_ARG;
}

/* Is `name` a group, such as "sample"? */
static bool is_group(const char *name)
{
    const size_t length = strlen(name);

    for (size_t i = 0; i < GE_KEYS; i++)
        if (strncmp(ge_keys[i].name, name, length) == 0 &&
            ge_keys[i].name[length] == '.')
            return true;
    return false;
}

static const struct ge_key *find_key(const char *name)
{
    for (size_t i = 0; i < GE_KEYS; i++)
        if (strcmp(ge_keys[i].name, name) == 0)
            return &ge_keys[i];
    return NULL;
}

static const char *leaf_of(const char *name)
{
    const char *dot = strrchr(name, '.');

    return dot != NULL ? dot + 1 : name;
}

/* "; is sample.every meant?" A key may be mistyped, or stand in another group
 * than its own. Returns `text`. */
static const char *advise_key(const char *name, char *text, size_t size)
{
    struct ge_suggestion s = {.word = name};

    for (size_t i = 0; i < GE_KEYS; i++) {
        const char *key = ge_keys[i].name;
        char group[GE_SUGGEST_MAX];

        ge_suggest(&s, key);
        ge_suggest_at(&s, key,
                      1 + ge_edit_distance(leaf_of(name), leaf_of(key)));
        snprintf(group, sizeof group, "%.*s", (int)strcspn(key, "."), key);
        ge_suggest(&s, group);
    }
    if (ge_suggested(&s) != NULL)
        snprintf(text, size, "is %s meant?", ge_suggested(&s));
    else
        snprintf(text, size, "`gradecho config --default` tells them all");
    return text;
}

/* One mapping: the root (prefix "") or a group. `seen` [GE_KEYS] finds what is
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
        char full[128], advice[160];

        snprintf(full, sizeof full, "%s%s%s", prefix,
                 prefix[0] != '\0' ? "." : "", value_of(name));
        const struct ge_key *key = find_key(full);

        if (key == NULL && prefix[0] == '\0' && is_group(full)) {
            GE_FAIL_IF(value->type != YAML_MAPPING_NODE, GRADECHO_E_INPUT,
                       "%s:%lu: %s must hold its keys, indented under it",
                       origin, at.line, full);
            GE_TRY(read_mapping(config, document, value, full, origin, seen));
            continue;
        }
        GE_FAIL_IF(key == NULL, GRADECHO_E_INPUT, "%s:%lu: unknown key %s; %s",
                   origin, at.line, full,
                   advise_key(full, advice, sizeof advice));
        GE_FAIL_IF(seen[key - ge_keys], GRADECHO_E_INPUT,
                   "%s:%lu: %s is repeated", origin, at.line, full);
        seen[key - ge_keys] = true;
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
        /* Short of memory libyaml has no problem to tell, and often not even
         * an error. */
        if (parser.problem == NULL) {
            status = GRADECHO_E_NOMEM;
            ge_error("no memory to read %s", origin);
        } else {
            status = GRADECHO_E_INPUT;
            ge_error("%s:%zu: not YAML: %s", origin,
                     parser.problem_mark.line + 1, parser.problem);
        }
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
    bool seen[GE_KEYS] = {false};

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

gradecho_status ge_key_set(struct ge_config *config, const struct ge_key *key,
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
    char name[128], advice[160];

    GE_FAIL_IF(equals == NULL || equals == assignment ||
                   (size_t)(equals - assignment) >= sizeof name,
               GRADECHO_E_INPUT, "--set %s: must be key=value", assignment);
    memcpy(name, assignment, (size_t)(equals - assignment));
    name[equals - assignment] = '\0';
    const struct ge_key *key = find_key(name);

    GE_FAIL_IF(key == NULL, GRADECHO_E_INPUT, "--set: unknown key %s; %s", name,
               advise_key(name, advice, sizeof advice));
    GE_TRY(ge_key_set(config, key, equals + 1, "--set"));
    GE_TRY(check(config, "--set"));
fail:
    return status;
}
