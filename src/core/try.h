/*
 * status.h is public (include/gradecho/status.h); this is how the code inside
 * decides, tells and forwards a status.
 *
 * Whoever first decides an error tells it, once, with values and cause; those
 * who forward it stay silent. All macros here need a local
 * `gradecho_status status` and a label `fail:`; no other macro may jump.
 */
#ifndef GRADECHO_CORE_TRY_H
#define GRADECHO_CORE_TRY_H

#include "message.h"

#include "gradecho/status.h"

/* Forward: the callee has already told it. */
#define GE_TRY(call)              \
    do {                          \
        status = (call);          \
        if (status < GRADECHO_OK) \
            goto fail;            \
    } while (0)

/* Decide here: tell once, then unwind. */
#define GE_FAIL(code, ...)     \
    do {                       \
        status = (code);       \
        ge_error(__VA_ARGS__); \
        goto fail;             \
    } while (0)

#define GE_FAIL_IF(condition, code, ...) \
    do {                                 \
        if (condition)                   \
            GE_FAIL(code, __VA_ARGS__);  \
    } while (0)

/* Text of a status. */
const char *ge_status_text(gradecho_status status);

/* Exit code of the program: 0 done, 2 usage, configuration or input error,
 * 1 any other failure. */
int ge_status_exit_code(gradecho_status status);

#endif
