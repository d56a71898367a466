#include "char_model.h"

#include "char_random.h"

#include <cblas.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void lay_out(struct model *model)
{
    const struct model_shape *s = &model->shape;
    const struct model_layer layer[MODEL_LAYERS] = {
        [EMBEDDING] = {"embedding", 0, s->vocabulary, s->embedding},
        [HIDDEN1_WEIGHT] = {"hidden1.weight", 0, s->hidden,
                            s->context * s->embedding},
        [HIDDEN1_BIAS] = {"hidden1.bias", 0, 1, s->hidden},
        [HIDDEN2_WEIGHT] = {"hidden2.weight", 0, s->hidden, s->hidden},
        [HIDDEN2_BIAS] = {"hidden2.bias", 0, 1, s->hidden},
        [OUTPUT_WEIGHT] = {"output.weight", 0, s->vocabulary, s->hidden},
        [OUTPUT_BIAS] = {"output.bias", 0, 1, s->vocabulary},
    };

    memcpy(model->layer, layer, sizeof(layer));
    model->count = 0;
    for (int l = 0; l < MODEL_LAYERS; l++) {
        model->layer[l].offset = model->count;
        model->count += (size_t)layer[l].rows * (size_t)layer[l].cols;
    }
}

/* Weights uniform with the variance 2 / (rows + cols), which keeps the scale
 * of tanh layers both ways (Glorot and Bengio 2010); embeddings of variance
 * 1, since each is looked up and not summed over; biases zero. */
static void initialise(struct model *model, uint64_t seed)
{
    uint64_t state = seed;

    for (int l = 0; l < MODEL_LAYERS; l++) {
        const struct model_layer *layer = &model->layer[l];
        const size_t count = (size_t)layer->rows * (size_t)layer->cols;
        const double reach = l == EMBEDDING
                                 ? sqrt(3.0)
                                 : sqrt(6.0 / (layer->rows + layer->cols));

        for (size_t i = 0; i < count && layer->rows > 1; i++)
            model->parameter[layer->offset + i] =
                (float)(reach * random_signed(&state));
    }
}

int model_create(struct model *model, const struct model_shape *shape,
                 uint64_t seed)
{
    const size_t batch = (size_t)shape->batch;
    const size_t input = batch * (size_t)(shape->context * shape->embedding);
    const size_t hidden = batch * (size_t)shape->hidden;
    const size_t output = batch * (size_t)shape->vocabulary;

    *model = (struct model){.shape = *shape};
    lay_out(model);
    if (model->count > INT_MAX - MODEL_RIDERS)
        return -1;
    model->parameter = calloc(model->count, sizeof(float));
    model->gradient = calloc(model->count + MODEL_RIDERS, sizeof(float));
    model->velocity = calloc(model->count, sizeof(float));
    model->input = calloc(input, sizeof(float));
    model->hidden1 = calloc(hidden, sizeof(float));
    model->hidden2 = calloc(hidden, sizeof(float));
    model->output = calloc(output, sizeof(float));
    model->d_input = calloc(input, sizeof(float));
    model->d_hidden1 = calloc(hidden, sizeof(float));
    model->d_hidden2 = calloc(hidden, sizeof(float));
    if (model->parameter == NULL || model->gradient == NULL ||
        model->velocity == NULL || model->input == NULL ||
        model->hidden1 == NULL || model->hidden2 == NULL ||
        model->output == NULL || model->d_input == NULL ||
        model->d_hidden1 == NULL || model->d_hidden2 == NULL) {
        model_destroy(model);
        return -1;
    }
    initialise(model, seed);
    return 0;
}

void model_destroy(struct model *model)
{
    free(model->parameter);
    free(model->gradient);
    free(model->velocity);
    free(model->input);
    free(model->hidden1);
    free(model->hidden2);
    free(model->output);
    free(model->d_input);
    free(model->d_hidden1);
    free(model->d_hidden2);
    *model = (struct model){0};
}

/* y = x W' + b for a batch of rows; the bias is the layer after its weight. */
static void dense(const struct model *model, int weight, const float *x,
                  float *y)
{
    const struct model_layer *w = &model->layer[weight];
    const float *bias = model->parameter + w[1].offset;
    const int batch = model->shape.batch;

    for (int i = 0; i < batch; i++)
        memcpy(y + (size_t)i * (size_t)w->rows, bias,
               (size_t)w->rows * sizeof(float));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, batch, w->rows,
                w->cols, 1.0F, x, w->cols, model->parameter + w->offset,
                w->cols, 1.0F, y, w->rows);
}

/* dW = dy' x, db = the sum of dy over the batch, dx = dy W. */
static void dense_backward(struct model *model, int weight, const float *x,
                           const float *dy, float *dx)
{
    const struct model_layer *w = &model->layer[weight];
    float *d_bias = model->gradient + w[1].offset;
    const int batch = model->shape.batch;

    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, w->rows, w->cols,
                batch, 1.0F, dy, w->rows, x, w->cols, 0.0F,
                model->gradient + w->offset, w->cols);
    memset(d_bias, 0, (size_t)w->rows * sizeof(float));
    for (int i = 0; i < batch; i++)
        cblas_saxpy(w->rows, 1.0F, dy + (size_t)i * (size_t)w->rows, 1, d_bias,
                    1);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, batch, w->cols,
                w->rows, 1.0F, dy, w->rows, model->parameter + w->offset,
                w->cols, 0.0F, dx, w->cols);
}

static void apply_tanh(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        x[i] = tanhf(x[i]);
}

/* d = d * (1 - y^2), the derivative of y = tanh(x). */
static void apply_tanh_backward(float *d, const float *y, size_t count)
{
    for (size_t i = 0; i < count; i++)
        d[i] *= 1.0F - y[i] * y[i];
}

/* Mean cross entropy; the logits become the gradient of that mean. */
static double softmax_loss(struct model *model, const unsigned char *windows)
{
    const struct model_shape *s = &model->shape;
    const float mean = 1.0F / (float)s->batch;
    double loss = 0.0;

    for (int i = 0; i < s->batch; i++) {
        float *z = model->output + (size_t)i * (size_t)s->vocabulary;
        const int target =
            windows[(size_t)(i + 1) * (size_t)(s->context + 1) - 1];
        const float wanted = z[target];
        float top = z[0], sum = 0.0F;

        for (int v = 1; v < s->vocabulary; v++)
            top = fmaxf(top, z[v]);
        for (int v = 0; v < s->vocabulary; v++)
            sum += z[v] = expf(z[v] - top); /* at most 1: no overflow */
        loss += log((double)sum) + (double)top - (double)wanted;
        for (int v = 0; v < s->vocabulary; v++)
            z[v] *= mean / sum;
        z[target] -= mean;
    }
    return loss / s->batch;
}

double model_loss(struct model *model, const unsigned char *windows)
{
    const struct model_shape *s = &model->shape;
    const size_t width = (size_t)s->embedding;
    const size_t hidden = (size_t)s->batch * (size_t)s->hidden;
    float *to = model->input;

    for (int i = 0; i < s->batch; i++)
        for (int c = 0; c < s->context; c++, to += width) {
            const size_t symbol = windows[i * (s->context + 1) + c];

            memcpy(to, model->parameter + symbol * width,
                   width * sizeof(float));
        }
    dense(model, HIDDEN1_WEIGHT, model->input, model->hidden1);
    apply_tanh(model->hidden1, hidden);
    dense(model, HIDDEN2_WEIGHT, model->hidden1, model->hidden2);
    apply_tanh(model->hidden2, hidden);
    dense(model, OUTPUT_WEIGHT, model->hidden2, model->output);
    return softmax_loss(model, windows);
}

double model_gradient(struct model *model, const unsigned char *windows)
{
    const struct model_shape *s = &model->shape;
    const size_t width = (size_t)s->embedding;
    const size_t hidden = (size_t)s->batch * (size_t)s->hidden;
    const double loss = model_loss(model, windows);
    const float *from = model->d_input;

    dense_backward(model, OUTPUT_WEIGHT, model->hidden2, model->output,
                   model->d_hidden2);
    apply_tanh_backward(model->d_hidden2, model->hidden2, hidden);
    dense_backward(model, HIDDEN2_WEIGHT, model->hidden1, model->d_hidden2,
                   model->d_hidden1);
    apply_tanh_backward(model->d_hidden1, model->hidden1, hidden);
    dense_backward(model, HIDDEN1_WEIGHT, model->input, model->d_hidden1,
                   model->d_input);
    memset(model->gradient, 0, (size_t)s->vocabulary * width * sizeof(float));
    for (int i = 0; i < s->batch; i++)
        for (int c = 0; c < s->context; c++, from += width) {
            const size_t symbol = windows[i * (s->context + 1) + c];

            cblas_saxpy(s->embedding, 1.0F, from, 1,
                        model->gradient + symbol * width, 1);
        }
    return loss;
}

void model_update(struct model *model, float learning_rate, float momentum)
{
    for (size_t i = 0; i < model->count; i++) {
        model->velocity[i] = momentum * model->velocity[i] + model->gradient[i];
        model->parameter[i] -= learning_rate * model->velocity[i];
    }
}
