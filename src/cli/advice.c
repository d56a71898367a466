#include "advice.h"

#include <math.h>
#include <stdlib.h>

#include "denoise.h"
#include "memory.h"
#include "try.h"
#include "verdict.h"

const double ge_advice_shares[GE_ADVICE_SHARES] = {0.5, 0.8, 0.95};
const double ge_advice_batches[GE_ADVICE_BATCHES] = {0.25, 0.5, 1.0, 2.0, 4.0};

static const struct {
    const char *name, *words;
} silences[GE_SILENCES] = {
    [GE_SAID] = {NULL, ""},
    [GE_ONE_REPLICA] = {"one_replica", "one replica shows no noise"},
    [GE_TWO_REPLICAS] = {"two_replicas", "two replicas leave no errors"},
    [GE_COPIES] = {"same_data", "two replicas share their data"},
    [GE_NO_BATCH] = {"no_batch", "the trainers tell no batch size"},
    [GE_FEW_SAMPLES] = {"few_samples", "too few samples for an error"},
    [GE_NO_GRADIENT] = {"no_gradient", "the gradient is not told from zero"},
    [GE_NO_ECHO] = {"no_echo", "no echo was measured"},
    [GE_NO_SIGNAL] = {"no_signal", "no mode is signal"},
    [GE_LAW_OFF_HERE] = {"law_off", "the law misses the measured echoes"},
    [GE_SMALL_ECHO] = {"small_echo",
                       "echoes too small to be carried to other batches"},
    [GE_UNSURE] = {"unsure", "the error is as large as the value"}};

const char *ge_silence_name(enum ge_silence silence)
{
    return silences[silence].name;
}

const char *ge_silence_words(enum ge_silence silence)
{
    return silences[silence].words;
}

static struct ge_told silent(enum ge_silence why)
{
    return (struct ge_told){(double)NAN, (double)NAN, why};
}

static struct ge_told tell(double value, double se)
{
    if (isnan(value) || isnan(se) || se > fabs(value))
        return silent(GE_UNSURE);
    return (struct ge_told){value, se, GE_SAID};
}

/* The row that holds the layer's echoes, or else its noise. */
static const struct ge_row *row_of(const struct ge_digest *d, size_t l)
{
    const size_t first = l * d->row.dims.modes;

    return d->echo.step >= 0 && !isnan(d->echo.values[GE_ECHO][first])
               ? &d->echo
               : &d->row;
}

/* ---- batch size ---- */

static void advise_batch(const struct ge_digest *d,
                         const struct ge_blocks *blocks, struct ge_advice *a)
{
    const struct ge_average scale = ge_blocks_ratio(blocks);
    const struct ge_average trace = ge_blocks_mean_x(blocks);
    const struct ge_average square = ge_blocks_mean_y(blocks);

    a->at_least = a->low = a->high = (double)NAN;
    for (int i = 0; i < 3; i++)
        a->progress[i] = (double)NAN;
    a->critical = silent(d->same_since >= 0                     ? GE_COPIES
                         : d->row.values[GE_REPLICAS][0] == 1.0 ? GE_ONE_REPLICA
                         : isnan(a->batch)                      ? GE_NO_BATCH
                                           : GE_FEW_SAMPLES);
    if (a->critical.silence != GE_FEW_SAMPLES || isnan(scale.se))
        return;
    if (!(square.value > 2.0 * square.se)) {
        a->critical = silent(GE_NO_GRADIENT);
        if (square.value + 2.0 * square.se > 0.0)
            a->at_least = fmax(trace.value - 2.0 * trace.se, 0.0) /
                          (square.value + 2.0 * square.se);
        return;
    }
    a->critical = tell(scale.value, scale.se);
    if (a->critical.silence != GE_SAID)
        return;
    a->low = scale.low;
    a->high = scale.high;
    for (int i = 0; i < 3; i++)
        a->progress[i] =
            1.0 / (1.0 + scale.value / (a->batch * ldexp(1.0, i - 1)));
}

/* ---- modes ---- */

struct modes {
    struct ge_mode_facts *facts; /* signal modes of a layer */
    struct ge_knee *knees;       /* of all layers asked for */
    struct ge_denoise *denoise;  /* of layers */
    size_t knee_count, layer_count;
};

/* The signal modes of a layer; *measured: how many modes it has. */
static size_t read_modes(const struct ge_digest *d, size_t l,
                         struct ge_mode_facts *facts, size_t *measured)
{
    const struct ge_row *row = row_of(d, l);
    const size_t width = row->dims.modes, first = l * width;
    size_t signal = 0;

    *measured = ge_row_modes(row, l);
    for (size_t at = first; at < first + *measured; at++) {
        if (!ge_row_is_signal(row, *measured, at))
            continue;
        facts[signal++] = (struct ge_mode_facts){
            .echo = row->values[GE_ECHO][at],
            .echo_se = row->values[GE_ECHO_SE][at],
            .echo_loo = row->values[GE_ECHO_LOO][at],
            .s_est = row->values[GE_S_EST][at],
            .s_mean = row->values[GE_S_MEAN][at],
            .s_replica = row->values[GE_S_REPLICA][at],
            .gain = row->values[GE_GAIN][at],
            .tau2_left = row->values[GE_TAU2_LEFT][at],
            .tau2_right = row->values[GE_TAU2_RIGHT][at],
            .replicas = row->values[GE_LAYER_REPLICAS][l]};
    }
    return signal;
}

static void read_layer(const struct ge_digest *d, size_t l, struct modes *m,
                       struct ge_advice *a)
{
    const struct ge_row *row = row_of(d, l);
    const double replicas = row->values[GE_LAYER_REPLICAS][l];
    size_t measured = 0;
    size_t signal = 0;

    if (!(replicas >= 3.0))
        return;
    signal = read_modes(d, l, m->facts, &measured);
    ge_denoise_layer(m->facts, signal, row->values[GE_NOISE_TRACE][l],
                     row->values[GE_NOISE_TRACE_SE][l],
                     row->values[GE_GRAD_SQNORM][l], replicas,
                     &m->denoise[m->layer_count]);
    if (!isnan(m->denoise[m->layer_count].raw))
        m->layer_count++;
    for (size_t k = 0; k < signal; k++) {
        struct ge_knee *knee = &m->knees[m->knee_count++];

        ge_knee_find(&m->facts[k], knee);
        a->small += isinf(knee->at) ? 1 : 0;
    }
    a->measured += measured;
    a->signal += signal;
}

static void advise_shares(struct modes *m, struct ge_advice *a)
{
    const bool off = ge_knee_misfit(m->knees, m->knee_count) > GE_LAW_OFF;

    for (int i = 0; i < GE_ADVICE_SHARES; i++) {
        const struct ge_knee_batch at =
            ge_knee_share(m->knees, m->knee_count, ge_advice_shares[i]);

        if (isnan(a->batch))
            a->knee[i] = silent(GE_NO_BATCH);
        else if (isinf(at.batch))
            a->knee[i] = silent(GE_SMALL_ECHO);
        else if (off && !at.measured)
            a->knee[i] = silent(GE_LAW_OFF_HERE);
        else
            a->knee[i] =
                tell(at.batch * a->batch, 0.5 * (at.high - at.low) * a->batch);
        if (a->knee[i].silence != GE_SAID)
            continue;
        a->knee_low[i] = at.low * a->batch;
        a->knee_high[i] = at.high * a->batch;
    }
}

static void advise_modes(const struct ge_digest *d, struct modes *m,
                         struct ge_advice *a)
{
    const double replicas = d->row.values[GE_REPLICAS][0];
    enum ge_silence why = d->same_since >= 0 ? GE_COPIES
                          : replicas == 1.0  ? GE_ONE_REPLICA
                          : replicas == 2.0  ? GE_TWO_REPLICAS
                          : a->measured == 0 ? GE_NO_ECHO
                                             : GE_SAID;
    struct ge_saving saving;

    a->trust = silent(why);
    if (why == GE_SAID && a->signal == 0)
        why = GE_NO_SIGNAL;
    for (int i = 0; i < GE_ADVICE_SHARES; i++) {
        a->knee[i] = silent(why);
        a->knee_low[i] = a->knee_high[i] = (double)NAN;
    }
    for (int i = 0; i < GE_ADVICE_BATCHES; i++)
        a->above[i] = (struct ge_count){(double)NAN, (double)NAN};
    if (a->trust.silence == GE_SAID) {
        struct ge_count now = ge_knee_count(m->knees, m->knee_count, 1.0);

        /* None, and surely none, is good to know. */
        a->trust = now.se > fmax(now.modes, 1.0)
                       ? silent(GE_UNSURE)
                       : (struct ge_told){now.modes, now.se, GE_SAID};
        for (int i = 0; i < GE_ADVICE_BATCHES; i++)
            a->above[i] =
                ge_knee_count(m->knees, m->knee_count, ge_advice_batches[i]);
    }
    if (why == GE_SAID)
        advise_shares(m, a);
    if (why == GE_NO_ECHO || why == GE_NO_SIGNAL)
        why = m->layer_count > 0 ? GE_SAID : GE_FEW_SAMPLES;
    a->saving = silent(why);
    a->rest = (double)NAN;
    if (why != GE_SAID)
        return;
    saving = ge_denoise_part(m->denoise, m->layer_count);
    a->saving = tell(saving.part, saving.se);
    if (m->layer_count == 1 && a->saving.silence == GE_SAID)
        a->rest = m->denoise[0].rest;
}

gradecho_status ge_advise(const struct ge_digest *d, size_t layer,
                          struct ge_advice *a)
{
    gradecho_status status = GRADECHO_OK;
    const bool whole = layer == GE_WHOLE_MODEL;
    const size_t layers = whole ? d->row.dims.layers : 1;
    const size_t width = d->row.dims.modes;
    struct modes m = {0};

    *a = (struct ge_advice){.batch = d->row.values[GE_BATCH_SIZE][0] *
                                     d->row.values[GE_REPLICAS][0]};
    m.facts = ge_alloc(width, sizeof *m.facts);
    m.knees = ge_alloc(layers * width, sizeof *m.knees);
    m.denoise = ge_alloc(layers, sizeof *m.denoise);
    GE_FAIL_IF(m.facts == NULL || m.knees == NULL || m.denoise == NULL,
               GRADECHO_E_NOMEM, "no memory for advice on %zu layers", layers);
    advise_batch(d, whole ? &d->model_blocks : &d->blocks[layer], a);
    for (size_t l = 0; l < layers; l++)
        read_layer(d, whole ? l : layer, &m, a);
    advise_modes(d, &m, a);
fail:
    free(m.facts);
    free(m.knees);
    free(m.denoise);
    return status;
}
