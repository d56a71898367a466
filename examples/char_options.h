/*
 * char_options.h - the command line of char_lm.
 */
#ifndef CHAR_OPTIONS_H
#define CHAR_OPTIONS_H

#include "char_model.h"

#include <stdint.h>

struct options {
    const char *data;         /* file with the text; NULL: see text_read() */
    const char *session;      /* NULL: $GRADECHO_SESSION, else "default" */
    struct model_shape shape; /* vocabulary 0: only the text can tell */
    int steps;
    int report; /* steps between two lines of output */
    float learning_rate;
    float momentum;
    uint64_t seed;
    int watch; /* hand gradients to gradecho */
    int mean;  /* and the mean that the allreduce makes of them */
    int check; /* check the gradient instead of training */
    int help;  /* it was asked for, and rank 0 printed it */
};

/* Parse the command line, which all ranks share; only rank 0 speaks.
 * \return 0, or -1: not understood */
int options_parse(struct options *options, int argc, char **argv, int rank);

#endif
