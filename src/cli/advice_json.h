/*
 * advice_json.h - advice as an object for `gradecho inspect --json`.
 */
#ifndef GRADECHO_CLI_ADVICE_JSON_H
#define GRADECHO_CLI_ADVICE_JSON_H

#include <jansson.h>

#include "advice.h"

/* NULL if memory is short. */
json_t *ge_advice_json(const struct ge_advice *advice);

#endif
