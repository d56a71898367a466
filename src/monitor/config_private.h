/*
 * config_private.h - the table of keys, shared by the files that read and print
 * the configuration. Not for others.
 */
#ifndef GRADECHO_MONITOR_CONFIG_PRIVATE_H
#define GRADECHO_MONITOR_CONFIG_PRIVATE_H

#include "config.h"

enum ge_kind { GE_WHOLE, GE_REAL, GE_WORD, GE_TEXT, GE_GLOBS };

struct ge_key {
    const char *name; /* group.key, or key */
    enum ge_kind kind;
    size_t offset;
    double least, most;       /* WHOLE, REAL */
    const char *initial;      /* in YAML */
    const char *const *words; /* WORD: NULL-terminated */
    const char *help;
};

enum { GE_KEYS = 35 };
extern const struct ge_key ge_keys[GE_KEYS];

/* A struct's field by its offset in the table. */
#define GE_FIELD(config, key, type) \
    ((type *)(void *)((char *)(config) + (key)->offset))
#define GE_CONST_FIELD(config, key, type) \
    ((const type *)(const void *)((const char *)(config) + (key)->offset))

/* Set one key from its YAML text; `origin` is for messages. */
GRADECHO_MUST_CHECK gradecho_status ge_key_set(struct ge_config *config,
                                               const struct ge_key *key,
                                               const char *value,
                                               const char *origin);

void ge_globs_clear(struct ge_globs *globs);

#endif
