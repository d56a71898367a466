/*
 * log_writer PATH FLUSH_EVERY LAYERS MODES REPLICAS [resume] - a log to read
 * while it grows: for each number on standard input so many rows are appended
 * as fast as possible, then "rows N M" is printed, M of the N committed; at end
 * of input the log is closed. A resumed log goes on where it ends.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "log_fixture.h"
#include "try.h"

static gradecho_status serve(ge_log_writer *log, struct ge_row *row)
{
    gradecho_status status = GRADECHO_OK;
    char line[32];
    uint64_t written = ge_log_past(log)->rows;

    while (fgets(line, sizeof line, stdin) != NULL) {
        for (unsigned long n = strtoul(line, NULL, 10); n > 0; n--) {
            fixture_fill(row, written++);
            GE_TRY(ge_log_append(log, row));
        }
        printf("rows %" PRIu64 " %" PRIu64 "\n", written, ge_log_rows(log));
        fflush(stdout);
    }
fail:
    return status;
}

int main(int argc, char **argv)
{
    gradecho_status status = GRADECHO_OK, closed = GRADECHO_OK;
    struct ge_log_layer *layers = NULL;
    struct ge_log_spec spec;
    ge_log_writer *log = NULL;
    struct ge_row row = {.step = -1};

    GE_FAIL_IF(argc != 6 && argc != 7, GRADECHO_E_USAGE,
               "usage: log_writer PATH FLUSH_EVERY LAYERS MODES REPLICAS "
               "[resume]");
    const struct ge_dimensions dims = {.layers = strtoul(argv[3], NULL, 10),
                                       .modes = strtoul(argv[4], NULL, 10),
                                       .replicas = strtoul(argv[5], NULL, 10)};
    layers = fixture_layers(dims.layers);
    GE_FAIL_IF(layers == NULL, GRADECHO_E_NOMEM, "out of memory");
    spec = fixture_spec(argv[1], dims, layers);
    spec.flush_every = (uint32_t)strtoul(argv[2], NULL, 10);
    GE_TRY(ge_row_init(&row, &dims));
    GE_TRY(argc == 7 ? ge_log_resume(&spec, &log) : ge_log_create(&spec, &log));
    GE_TRY(serve(log, &row));
fail:
    closed = ge_log_close(&log);
    ge_row_fini(&row);
    free(layers);
    return ge_status_exit_code(status < GRADECHO_OK ? status : closed);
}
