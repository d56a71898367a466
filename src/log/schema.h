/*
 * schema.h - every dataset of the log, schema version 1, in one table.
 *
 * The writer, the reader, `inspect`, `export` and the documentation go by
 * this table: a field that is not here does not exist.
 *
 * Shapes are over the dimensions step (unlimited), layer, mode, replica.
 * Missing values are NaN, in integer fields -1. Mode and
 * replica fields, the bulk of a log, are stored in single precision, but for
 * squares, which single precision could not hold.
 */
#ifndef GRADECHO_LOG_SCHEMA_H
#define GRADECHO_LOG_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

#define GE_SCHEMA_VERSION 1

/* Shape of a field: what one row (one sample) holds. */
enum ge_shape {
    GE_PER_STEP,    /* one value */
    GE_PER_PAIR,    /* [2]: the two replicas of a pair */
    GE_PER_LAYER,   /* [layers] */
    GE_PER_MODE,    /* [layers x modes] */
    GE_PER_REPLICA, /* [layers x replicas] */
    GE_SHAPES
};

/* How a field is stored. In memory all values are doubles. */
enum ge_type { GE_I64, GE_F64, GE_F32 };

/* X(identifier, name, shape, type, units, long name)
 * "1" is the unit of a pure number; "[g]" the unit of a gradient entry. */
#define GE_FIELD_MAP(X)                                                        \
    X(TIME, "time", GE_PER_STEP, GE_F64,                                       \
      "seconds since 1970-01-01 00:00:00 UTC",                                 \
      "time at which the sample was handed over")                              \
    X(REPLICAS, "replicas", GE_PER_STEP, GE_I64, "1",                          \
      "replicas in the sample, over all ranks")                                \
    X(LOSS, "loss", GE_PER_STEP, GE_F64, "1",                                  \
      "training loss told by the trainers, mean over ranks")                   \
    X(BATCH_SIZE, "batch_size", GE_PER_STEP, GE_F64, "examples",               \
      "examples behind one replica")                                           \
    X(DURATION, "duration_seconds", GE_PER_STEP, GE_F64, "s",                  \
      "time the monitor spent on the sample")                                  \
    X(DROPPED, "dropped", GE_PER_STEP, GE_I64, "1",                            \
      "samples lost so far because the monitor was busy")                      \
    X(RESTARTS, "restarts", GE_PER_STEP, GE_I64, "1",                          \
      "restarts of the monitors so far; where it grows, rows may be missing")  \
    X(CORRELATION, "residual_correlation_max", GE_PER_STEP, GE_F64, "1",       \
      "largest correlation of two replicas' residuals")                        \
    X(CORRELATION_PAIR, "residual_correlation_pair", GE_PER_PAIR, GE_I64, "1", \
      "the two replicas of the largest residual correlation")                  \
    X(MODEL_GRAD_SQNORM, "model_grad_sqnorm", GE_PER_STEP, GE_F64, "[g]^2",    \
      "grad_sqnorm of the whole model: sum over layers")                       \
    X(MODEL_NOISE_TRACE, "model_noise_trace", GE_PER_STEP, GE_F64, "[g]^2",    \
      "noise_trace of the whole model: sum over layers")                       \
    X(MODEL_NOISE_SCALE, "model_noise_scale", GE_PER_STEP, GE_F64, "examples", \
      "noise scale of the whole model; signed")                                \
    X(MODEL_NOISE_SCALE_SE, "model_noise_scale_se", GE_PER_STEP, GE_F64,       \
      "examples",                                                              \
      "standard error of model_noise_scale, jackknife over replicas")          \
    X(MODEL_NOISE_SCALE_SMOOTH, "model_noise_scale_smooth", GE_PER_STEP,       \
      GE_F64, "examples", "the same from moving averages")                     \
    X(LAYER_REPLICAS, "layer_replicas", GE_PER_LAYER, GE_I64, "1",             \
      "replicas used for the layer: present and finite")                       \
    X(SIGMA2, "sigma2", GE_PER_LAYER, GE_F64, "[g]^2",                         \
      "noise variance of one entry of one replica")                            \
    X(SIGMA2_SE, "sigma2_se", GE_PER_LAYER, GE_F64, "[g]^2",                   \
      "standard error of sigma2, jackknife over replicas")                     \
    X(GRAD_SQNORM, "grad_sqnorm", GE_PER_LAYER, GE_F64, "[g]^2",               \
      "unbiased squared norm of the true gradient; signed")                    \
    X(GRAD_SQNORM_SE, "grad_sqnorm_se", GE_PER_LAYER, GE_F64, "[g]^2",         \
      "standard error of grad_sqnorm, jackknife over replicas")                \
    X(NOISE_TRACE, "noise_trace", GE_PER_LAYER, GE_F64, "[g]^2",               \
      "trace of one replica's noise covariance")                               \
    X(NOISE_TRACE_SE, "noise_trace_se", GE_PER_LAYER, GE_F64, "[g]^2",         \
      "standard error of noise_trace, jackknife over replicas")                \
    X(NOISE_SCALE, "noise_scale", GE_PER_LAYER, GE_F64, "examples",            \
      "simple gradient noise scale; signed")                                   \
    X(NOISE_SCALE_SE, "noise_scale_se", GE_PER_LAYER, GE_F64, "examples",      \
      "standard error of noise_scale, jackknife over replicas")                \
    X(NOISE_SCALE_SMOOTH, "noise_scale_smooth", GE_PER_LAYER, GE_F64,          \
      "examples",                                                              \
      "noise scale from moving averages: ratio of averages; signed")           \
    X(EDGE, "edge", GE_PER_LAYER, GE_F64, "[g]",                               \
      "largest singular value of isotropic noise of this variance")            \
    X(TAU2_EDGE, "tau2_edge", GE_PER_LAYER, GE_F64, "[g]^2",                   \
      "knee, squared bulk edge: belongs on the observed axis")                 \
    X(TAU2_ASYM, "tau2_asym", GE_PER_LAYER, GE_F64, "[g]^2",                   \
      "knee, asymptotic: belongs on the axis of true singular values")         \
    X(TAU2_FIT, "tau2_fit", GE_PER_LAYER, GE_F64, "[g]^2",                     \
      "knee fitted to the measured echoes of the signal modes")                \
    X(TAU2_FIT_SE, "tau2_fit_se", GE_PER_LAYER, GE_F64, "[g]^2",               \
      "standard error of tau2_fit, jackknife over replicas")                   \
    X(Q_FIT, "q_fit", GE_PER_LAYER, GE_F64, "1",                               \
      "fitted exponent of the hill law")                                       \
    X(Q_FIT_SE, "q_fit_se", GE_PER_LAYER, GE_F64, "1",                         \
      "standard error of q_fit, jackknife over replicas")                      \
    X(MISFIT_HILL, "misfit_hill", GE_PER_LAYER, GE_F64, "1",                   \
      "root mean square of law minus echo over signal modes, hill")            \
    X(MISFIT_TWO_SIDED, "misfit_two_sided", GE_PER_LAYER, GE_F64, "1",         \
      "the same for the two-sided law")                                        \
    X(MISFIT_EXACT, "misfit_exact", GE_PER_LAYER, GE_F64, "1",                 \
      "the same for the exact law")                                            \
    X(MISFIT_MODE, "misfit_mode", GE_PER_LAYER, GE_F64, "1",                   \
      "the same for the mode-resolved law")                                    \
    X(SIGNAL_MODES, "signal_modes", GE_PER_LAYER, GE_I64, "1",                 \
      "modes that pass the significance test")                                 \
    X(S_MEAN, "s_mean", GE_PER_MODE, GE_F32, "[g]",                            \
      "singular value of the mean gradient")                                   \
    X(RESIDUAL, "residual", GE_PER_MODE, GE_F32, "1",                          \
      "relative residual of the mean's mode, norm of A'u - s v over s; below " \
      "svd.tolerance: converged; missing where LAPACK found the mode")         \
    X(S_REPLICA, "s_replica", GE_PER_MODE, GE_F32, "[g]",                      \
      "singular value of one replica, mean over replicas")                     \
    X(S_EST, "s_est", GE_PER_MODE, GE_F32, "[g]",                              \
      "estimate of the true singular value")                                   \
    X(ECHO, "echo", GE_PER_MODE, GE_F32, "1",                                  \
      "measured spectral echo of one replica")                                 \
    X(ECHO_SE, "echo_se", GE_PER_MODE, GE_F32, "1",                            \
      "standard error of echo, jackknife over replicas")                       \
    X(ECHO_LOO, "echo_loo", GE_PER_MODE, GE_F32, "1",                          \
      "measured spectral echo of the mean of all replicas but one")            \
    X(ECHO_CLUSTER, "echo_cluster", GE_PER_MODE, GE_F32, "1",                  \
      "echo in the span of the mode and the neighbours that it mixes with")    \
    X(ECHO_REVERB, "echo_reverb", GE_PER_MODE, GE_F32, "1",                    \
      "echo by the reverb cross-check estimator")                              \
    X(GAIN, "gain", GE_PER_MODE, GE_F32, "1",                                  \
      "optimal shrinkage of an observed singular value")                       \
    X(GAIN_SE, "gain_se", GE_PER_MODE, GE_F32, "1",                            \
      "standard error of gain, jackknife over replicas")                       \
    X(ECHO_HILL, "echo_hill", GE_PER_MODE, GE_F32, "1",                        \
      "echo by the hill law with tau2_edge on the observed axis")              \
    X(ECHO_TWO_SIDED, "echo_two_sided", GE_PER_MODE, GE_F32, "1",              \
      "echo by the two-sided first-order law, isotropic noise")                \
    X(ECHO_EXACT, "echo_exact", GE_PER_MODE, GE_F32, "1",                      \
      "echo by the exact infinite-size law, isotropic noise")                  \
    X(ECHO_MODE, "echo_mode", GE_PER_MODE, GE_F32, "1",                        \
      "echo by the mode-resolved law, first order")                            \
    X(ECHO_MODE_CLOSED, "echo_mode_closed", GE_PER_MODE, GE_F32, "1",          \
      "echo by the mode-resolved law, closed form")                            \
    X(ECHO_HILL_ASYM, "echo_hill_asym", GE_PER_MODE, GE_F32, "1",              \
      "echo by the hill law with tau2_asym on the true axis")                  \
    X(MODE_T, "mode_t", GE_PER_MODE, GE_F32, "1",                              \
      "significance statistic of the mode")                                    \
    X(MODE_GAP, "mode_gap", GE_PER_MODE, GE_F32, "1",                          \
      "distance to the nearest other singular value of the mean, in noise "    \
      "standard deviations of one entry; below 3 single modes mix")            \
    X(TAU2_LEFT, "tau2_left_mode", GE_PER_MODE, GE_F64, "[g]^2",               \
      "noise energy leaking out of the left singular vector")                  \
    X(TAU2_RIGHT, "tau2_right_mode", GE_PER_MODE, GE_F64, "[g]^2",             \
      "noise energy leaking out of the right singular vector")                 \
    X(ANISOTROPY_LEFT, "anisotropy_left", GE_PER_MODE, GE_F32, "1",            \
      "tau2_left_mode over its isotropic value")                               \
    X(ANISOTROPY_RIGHT, "anisotropy_right", GE_PER_MODE, GE_F32, "1",          \
      "tau2_right_mode over its isotropic value")                              \
    X(REPLICA_NOISE, "replica_noise", GE_PER_REPLICA, GE_F32, "1",             \
      "noise of one replica over the mean noise; 1 when healthy")              \
    X(ALARMS, "alarms", GE_PER_STEP, GE_I64, "1",                              \
      "alarms that are raised, of the run or of any layer; a bit for each "    \
      "rule, its attribute flag_meanings says which")                          \
    X(LAYER_ALARMS, "layer_alarms", GE_PER_LAYER, GE_I64, "1",                 \
      "alarms that are raised for the layer; a bit for each rule")

/* What an alarm may be about: bit 1 << GE_RULE_* of the two fields above. Their
 * attributes flag_masks and flag_meanings (CF conventions) repeat this.
 * X(identifier, name) */
#define GE_RULE_MAP(X)                        \
    X(SAME_DATA, "same_data")                 \
    X(NOT_FINITE, "not_finite")               \
    X(LOST, "lost")                           \
    X(HOT_REPLICA, "hot_replica")             \
    X(DROPPED, "dropped")                     \
    X(NOISE_SCALE, "noise_scale")             \
    X(LAYER_NOISE_SCALE, "layer_noise_scale") \
    X(KNEE, "knee")                           \
    X(PURE_NOISE, "pure_noise")

#define GE_RULE_ENUM_(id, name) GE_RULE_##id,
enum ge_rule { GE_RULE_MAP(GE_RULE_ENUM_) GE_RULES };
#undef GE_RULE_ENUM_

/* One entry for each enum ge_rule, in its order. */
extern const char *const ge_rule_names[GE_RULES];

/* Is the rule's bit set in a value of the two fields? Not in a missing one. */
bool ge_rule_raised(double bits, enum ge_rule rule);

#define GE_FIELD_ENUM_(id, name, shape, type, units, text) GE_##id,
enum ge_field { GE_FIELD_MAP(GE_FIELD_ENUM_) GE_FIELDS };
#undef GE_FIELD_ENUM_

struct ge_field_info {
    const char *name; /* of the dataset, below the root */
    enum ge_shape shape;
    enum ge_type type;
    const char *units;
    const char *long_name;
};

/* One entry for each enum ge_field, in its order. */
extern const struct ge_field_info ge_fields[GE_FIELDS];

/* Lengths of the fixed dimensions of one log. */
struct ge_dimensions {
    size_t layers, modes, replicas;
};

/* Values that one row of a field of this shape holds. */
size_t ge_shape_count(enum ge_shape shape, const struct ge_dimensions *dims);

/* One row: everything known about one sample. All values are doubles,
 * integer fields included (they are exact below 2^53). */
struct ge_row {
    long long step;
    struct ge_dimensions dims;
    double *values[GE_FIELDS]; /* [ge_shape_count(shape of the field)] */
    double *block;             /* the one allocation behind `values` */
};

#include "gradecho/status.h"

/* A row with every value missing. \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status
ge_row_init(struct ge_row *row, const struct ge_dimensions *dims);
void ge_row_fini(struct ge_row *row);

/* Every value missing (NaN, in integer fields -1), step -1. */
void ge_row_clear(struct ge_row *row);

#endif
