/*
 * char_check.c - is the gradient of char_model.c right?
 *
 * The loss here shares no arithmetic with the one it checks: plain loops in
 * double, one example at a time. Its central differences therefore catch a
 * wrong forward pass as well as a wrong backward pass.
 */
#include "char_model.h"

#include "char_random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDEST = 16 }; /* no layer of the tiny model has more columns */

static const struct model_shape tiny = {
    .vocabulary = 7, .context = 3, .embedding = 4, .hidden = 6, .batch = 5};

static void plain_dense(const struct model_layer *w, const double *parameter,
                        const double *x, double *y)
{
    for (int r = 0; r < w->rows; r++) {
        y[r] = parameter[w[1].offset + (size_t)r];
        for (int c = 0; c < w->cols; c++)
            y[r] += parameter[w->offset + (size_t)(r * w->cols + c)] * x[c];
    }
}

static double plain_loss(const struct model *model, const double *parameter,
                         const unsigned char *windows)
{
    const struct model_shape *s = &model->shape;
    double loss = 0.0;

    for (int i = 0; i < s->batch; i++) {
        const unsigned char *window = windows + (size_t)(i * (s->context + 1));
        double x[WIDEST] = {0}, h1[WIDEST] = {0}, h2[WIDEST] = {0};
        double z[WIDEST] = {0}, sum = 0.0;

        for (int c = 0; c < s->context; c++)
            for (int e = 0; e < s->embedding; e++)
                x[c * s->embedding + e] =
                    parameter[window[c] * s->embedding + e];
        plain_dense(&model->layer[HIDDEN1_WEIGHT], parameter, x, h1);
        for (int h = 0; h < s->hidden; h++)
            h1[h] = tanh(h1[h]);
        plain_dense(&model->layer[HIDDEN2_WEIGHT], parameter, h1, h2);
        for (int h = 0; h < s->hidden; h++)
            h2[h] = tanh(h2[h]);
        plain_dense(&model->layer[OUTPUT_WEIGHT], parameter, h2, z);
        for (int v = 0; v < s->vocabulary; v++)
            sum += exp(z[v]);
        loss += log(sum) - z[window[s->context]];
    }
    return loss / s->batch;
}

/* Largest difference within one layer, in units of its largest gradient. */
static double layer_error(const struct model *model, int l, double *parameter,
                          const unsigned char *windows)
{
    const struct model_layer *layer = &model->layer[l];
    const double step = 1e-5; /* its error: step^2, and rounding / step */
    double worst = 0.0, largest = 0.0;

    for (int i = 0; i < layer->rows * layer->cols; i++) {
        double *p = parameter + layer->offset + i;
        const double kept = *p;
        const double g = (double)model->gradient[layer->offset + (size_t)i];

        *p = kept + step;
        const double above = plain_loss(model, parameter, windows);
        *p = kept - step;
        const double below = plain_loss(model, parameter, windows);
        *p = kept;
        worst = fmax(worst, fabs((above - below) / (2.0 * step) - g));
        largest = fmax(largest, fabs(g));
    }
    return largest > 0.0 ? worst / largest : HUGE_VAL;
}

int model_check_gradient(uint64_t seed)
{
    const double bound = 1e-5; /* float arithmetic over sums of 20 terms */
    unsigned char windows[64];
    struct model model;
    uint64_t state = seed;
    int result = 0;

    if (model_create(&model, &tiny, seed) != 0)
        return -1;
    double *parameter = calloc(model.count, sizeof(double));
    if (parameter == NULL) {
        model_destroy(&model);
        return -1;
    }
    for (size_t i = 0; i < sizeof(windows); i++)
        windows[i] =
            (unsigned char)random_below(&state, (uint64_t)tiny.vocabulary);
    for (size_t i = 0; i < model.count; i++) {
        /* Biases too: at zero some mistakes do not show. */
        model.parameter[i] += 0.1F * (float)random_signed(&state);
        parameter[i] = (double)model.parameter[i];
    }
    const double loss = model_gradient(&model, windows);
    const double expected = plain_loss(&model, parameter, windows);

    printf("loss            %.7f, in double %.7f\n", loss, expected);
    result = fabs(loss - expected) < bound ? 0 : -1;
    for (int l = 0; l < MODEL_LAYERS; l++) {
        const double error = layer_error(&model, l, parameter, windows);
        const int right = error < bound; /* false for NaN */

        printf("%-15s relative error %.1e%s\n", model.layer[l].name, error,
               right ? "" : ": WRONG");
        result = right ? result : -1;
    }
    free(parameter);
    model_destroy(&model);
    return result;
}
