/*
 * Configuration: a YAML text, or one "key=value". What is accepted is in range
 * (which printing and parsing again shows) and survives the round trip.
 */
#include "fuzz.h"

#include <stdio.h>

#include "config.h"
#include "message.h"

static char *print(const struct ge_config *config, size_t *size)
{
    char *text = NULL;
    FILE *stream = open_memstream(&text, size);

    FUZZ_CHECK(stream != NULL);
    FUZZ_CHECK(ge_config_print(config, false, stream));
    fclose(stream);
    return text;
}

static void check_round_trip(const struct ge_config *config)
{
    struct ge_config again = {0};
    size_t size = 0, size_again = 0;
    char *text = print(config, &size), *text_again = NULL;

    FUZZ_CHECK(ge_config_init(&again) == GRADECHO_OK);
    FUZZ_CHECK(ge_config_parse(&again, text, size, "again") == GRADECHO_OK);
    text_again = print(&again, &size_again);
    FUZZ_CHECK(size == size_again && memcmp(text, text_again, size) == 0);
    free(text_again);
    free(text);
    ge_config_fini(&again);
}

void fuzz_once(const uint8_t *data, size_t size)
{
    struct ge_config config = {0};
    gradecho_status status = GRADECHO_OK;

    FUZZ_CHECK(ge_config_init(&config) == GRADECHO_OK);
    if (size > 0 && data[0] == '=') {
        char *text = strndup((const char *)data + 1, size - 1);

        FUZZ_CHECK(text != NULL);
        status = ge_config_set(&config, text);
        free(text);
    } else {
        status = ge_config_parse(&config, (const char *)data, size, "input");
    }
    FUZZ_CHECK(status >= GRADECHO_OK || ge_message_last()[0] != '\0');
    if (status >= GRADECHO_OK)
        check_round_trip(&config);
    (void)ge_globs_match(&config.layers_include, "block.0.weight");
    ge_config_fini(&config);
}
