/*
 * config.h - what a user can set, in one table.
 *
 * Configuration is YAML (libyaml parses it). Every key has a type, a default,
 * a range and a line of help in config.c; parsing, `gradecho config`, the
 * copy in the log and docs all go by that table. Unknown, repeated, malformed
 * and out-of-range keys are errors of one line: "run.yaml:7: sample.every must
 * be a whole number from 1 to 1000000000, not 0".
 *
 * Pure: text in, struct out; no files, no environment.
 */
#ifndef GRADECHO_MONITOR_CONFIG_H
#define GRADECHO_MONITOR_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "gradecho/status.h"

/* Largest layers.max_modes. */
enum { GE_MODES_MAX = 512 };

struct ge_globs {
    char **item; /* [count], owned */
    size_t count;
};

/* Values of the keys with a fixed set of words, in the order of the words. */
enum ge_placement { GE_PLACEMENT_ROOT, GE_PLACEMENT_SPREAD };
enum ge_estimator { GE_ESTIMATOR_LOO, GE_ESTIMATOR_REVERB, GE_ESTIMATOR_BOTH };
enum ge_fit_weights { GE_FIT_DELTA, GE_FIT_OLS };
enum ge_reduce_mean { GE_MEAN_NETWORK, GE_MEAN_HANDOFF };
enum ge_on_loss { GE_LOSS_CONTINUE, GE_LOSS_STOP };

struct ge_config {
    char *session;             /* owned; "" : environment, else default */
    int64_t sample_every;      /* steps */
    int64_t sample_echo_every; /* samples */
    struct ge_globs layers_include, layers_exclude;
    int64_t layers_max_modes;
    int64_t layers_per_sample; /* 0: all */
    double svd_tolerance;
    int64_t svd_oversample;
    int64_t svd_placement; /* enum ge_placement */
    int64_t svd_threads;
    int64_t echo_estimator; /* enum ge_estimator */
    int64_t echo_partners;
    int64_t echo_replicas_max;
    int64_t reduce_mean;                               /* enum ge_reduce_mean */
    double noise_half_life;                            /* samples */
    int64_t fit_weights;                               /* enum ge_fit_weights */
    char *log_path;                                    /* owned */
    int64_t log_flush_every;                           /* samples */
    double alarm_noise_scale, alarm_layer_noise_scale; /* examples */
    double alarm_knee;                                 /* [g]^2 */
    int64_t alarm_pure_noise;                          /* echo samples */
    double alarm_same_data, alarm_hot_replica, alarm_dropped;
    int64_t alarm_not_finite, alarm_lost; /* 0 or 1 */
    struct ge_globs alarm_layers;
    int64_t alarm_samples;
    char *alarm_command;       /* owned; "": none */
    char *prometheus_path;     /* owned; "": none */
    double prometheus_seconds; /* between two writes */
    int64_t on_rank_loss;      /* enum ge_on_loss */
    double timeout_seconds;
};

/* Every key at its default. Release with ge_config_fini(), also after a
 * failure. \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_config_init(struct ge_config *config);
void ge_config_fini(struct ge_config *config);

/* Read YAML over what is there. `origin` (a file's name) is for messages.
 * \return GRADECHO_E_INPUT   with one line that names origin, line and key
 *         GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_config_parse(struct ge_config *config,
                                                    const char *text,
                                                    size_t length,
                                                    const char *origin);

/* One "key=value" of the command line, the value in YAML. \return as above */
GRADECHO_MUST_CHECK gradecho_status ge_config_set(struct ge_config *config,
                                                  const char *assignment);

/* The effective configuration as YAML that ge_config_parse() reads back; with
 * `help`, each key under its line of help. False if `out` fails. */
bool ge_config_print(const struct ge_config *config, bool help, FILE *out);

/* One key for people, in the order of the table: its place among the values of
 * other keys, its help and its default are as `gradecho config` tells them. */
struct ge_config_key {
    const char *name, *help, *initial;
    char range[96];           /* "1 to 512", "root | spread", "" */
    const char *const *words; /* those it can be, NULL-terminated; or NULL */
};

/* False behind the last one. */
bool ge_config_key(size_t index, struct ge_config_key *out);

/* True if any of the globs (fnmatch) matches. */
bool ge_globs_match(const struct ge_globs *globs, const char *name);

#endif
