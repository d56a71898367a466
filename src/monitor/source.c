#include "source.h"

#include <stdlib.h>

void ge_source_close(struct ge_source **source)
{
    if (*source == NULL)
        return;
    (*source)->ops->close(*source);
    ge_layers_fini(&(*source)->facts.layers);
    free(*source);
    *source = NULL;
}
