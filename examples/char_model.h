/*
 * char_model.h - the network of char_lm: it predicts the next symbol from the
 * last few ones (Bengio et al. 2003).
 *
 *     context symbols -> their embeddings, side by side
 *                     -> tanh(hidden1) -> tanh(hidden2) -> softmax
 *
 * All parameters lie in one flat array and all gradients in another with the
 * same offsets, so that one call reduces, copies or updates them all.
 * One thread, no MPI.
 */
#ifndef CHAR_MODEL_H
#define CHAR_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum {
    EMBEDDING,      /* [vocabulary x embedding] */
    HIDDEN1_WEIGHT, /* [hidden x context * embedding] */
    HIDDEN1_BIAS,   /* [1 x hidden] */
    HIDDEN2_WEIGHT, /* [hidden x hidden] */
    HIDDEN2_BIAS,   /* [1 x hidden] */
    OUTPUT_WEIGHT,  /* [vocabulary x hidden] */
    OUTPUT_BIAS,    /* [1 x vocabulary] */
    MODEL_LAYERS
};

/* Numbers that travel behind the gradient in the trainer's allreduce. */
enum { MODEL_RIDERS = 2 };

struct model_shape {
    int vocabulary, context, embedding, hidden, batch;
};

struct model_layer {
    const char *name; /* static */
    size_t offset;    /* in `parameter` and `gradient` */
    int rows, cols;
};

struct model {
    struct model_shape shape;
    struct model_layer layer[MODEL_LAYERS];
    size_t count;     /* parameters */
    float *parameter; /* [count], row-major layer by layer */
    float *gradient;  /* [count + MODEL_RIDERS], of the mean loss */
    float *velocity;  /* [count], the momentum's memory */
    float *input;     /* [batch x context * embedding] */
    float *hidden1;   /* [batch x hidden], after tanh */
    float *hidden2;   /* [batch x hidden], after tanh */
    float *output;    /* [batch x vocabulary], logits, then their gradient */
    float *d_input;   /* gradients of the arrays above */
    float *d_hidden1;
    float *d_hidden2;
};

/* Allocate and initialise; equal seeds give equal parameters.
 * \return 0, or -1: out of memory, or more parameters than an int counts;
 *         *model is then empty */
int model_create(struct model *model, const struct model_shape *shape,
                 uint64_t seed);
void model_destroy(struct model *model);

/* Mean loss of a batch, nats per symbol.
 * \param windows  [batch x (context + 1)] symbols, the last is the target */
double model_loss(struct model *model, const unsigned char *windows);

/* The same, and its gradient in model->gradient. */
double model_gradient(struct model *model, const unsigned char *windows);

/* One step of gradient descent with momentum along model->gradient. */
void model_update(struct model *model, float learning_rate, float momentum);

/* Compare model_gradient() on a tiny model with central differences of an
 * independent loss in double precision; tell each layer's error.
 * \return 0 if all agree, else -1 */
int model_check_gradient(uint64_t seed);

#endif
