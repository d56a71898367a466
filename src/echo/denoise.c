#include "denoise.h"

#include <math.h>

void ge_denoise_layer(const struct ge_mode_facts *modes, size_t count,
                      double trace, double trace_se, double sqnorm,
                      double replicas, struct ge_denoise *out)
{
    const double raw = trace / replicas;
    double energy = sqnorm + raw; /* of the rest: ||Gbar||^2, less the modes */
    double noise = raw;           /* <rest, rest - G> */
    double taken = 0.0, own = 0.0, both = 0.0, shared = 0.0;

    for (size_t k = 0; k < count; k++) {
        const struct ge_shrunk shrunk = ge_mode_shrunk(&modes[k]);
        const double s2 = modes[k].s_mean * modes[k].s_mean;
        const double cut = s2 * (1.0 - shrunk.gain), error = s2 * shrunk.se;

        if (isnan(cut) || !(s2 < energy))
            continue;
        energy -= s2;
        noise -= cut;
        taken += cut * (1.0 - shrunk.gain);
        own += error * error * (1.0 - shrunk.gain) * (1.0 - shrunk.gain);
        both += error * error * (1.0 - shrunk.gain);
        shared += error * error;
    }
    out->raw = raw;
    /* Of the average that was measured and of the draw that is today's. */
    out->raw_se = trace_se / replicas * sqrt(replicas);
    out->rest = fmin(fmax(1.0 - noise / energy, 0.0), 1.0);
    /* Where the factor is free this is noise^2/energy, the energy being known:
     * that of what was seen. */
    out->saved = taken + energy * (1.0 - out->rest) * (1.0 - out->rest);
    out->slope = out->rest > 0.0 ? 2.0 * (1.0 - out->rest) : 0.0;
    out->modes_se = sqrt(4.0 * own - 4.0 * out->slope * both +
                         out->slope * out->slope * shared);
    if (isnan(raw) || isnan(sqnorm)) /* fmin, fmax lose a NaN */
        out->raw = out->saved = out->rest = (double)NAN;
}

struct ge_saving ge_denoise_part(const struct ge_denoise *layers, size_t count)
{
    double raw = 0.0, saved = 0.0, variance = 0.0;
    struct ge_saving made;

    for (size_t l = 0; l < count; l++) {
        raw += layers[l].raw;
        saved += layers[l].saved;
    }
    made.part = saved / raw;
    for (size_t l = 0; l < count; l++) {
        const double by = (layers[l].slope - made.part) * layers[l].raw_se;

        variance += by * by + layers[l].modes_se * layers[l].modes_se;
    }
    made.se = sqrt(variance) / raw;
    return made;
}
