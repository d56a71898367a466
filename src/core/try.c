#include "try.h"

const char *ge_status_text(gradecho_status status)
{
#define TEXT_OF(name, value, text) \
    case name:                     \
        return text;

    switch (status) {
        GRADECHO_STATUS_MAP(TEXT_OF)
    }
    return "unknown status";
#undef TEXT_OF
}

int ge_status_exit_code(gradecho_status status)
{
    switch (status) {
    case GRADECHO_E_ARG:
    case GRADECHO_E_USAGE:
    case GRADECHO_E_INPUT:
    case GRADECHO_E_EXISTS:
    case GRADECHO_E_ABI:
        return 2;
    default:
        return status < GRADECHO_OK ? 1 : 0;
    }
}
