/*
 * The reader of logs, and what inspect prints of what it read.
 */
#include "fuzz.h"

#include <stdio.h>

#include "forge.h"
#include "inspect.h"
#include "message.h"

enum { LAYERS = 2, MODES = 3, REPLICAS = 2, ROWS = 3 };

/* Beyond this a row is a matter of memory, not of reading. */
static const size_t row_values_max = (size_t)1 << 16;

/* A dataset for a field, of the shape and type of the schema. */
static struct forge_plan plan_of(enum ge_field field)
{
    static const int ranks[GE_SHAPES] = {1, 2, 2, 3, 3};
    const struct ge_field_info *info = &ge_fields[field];
    struct forge_plan plan = {.name = info->name,
                              .rank = ranks[info->shape],
                              .dims = {ROWS, LAYERS, MODES},
                              .grows = 1};

    if (info->shape == GE_PER_PAIR)
        plan.dims[1] = 2;
    if (info->shape == GE_PER_REPLICA)
        plan.dims[2] = REPLICAS;
    plan.type = info->type == GE_I64   ? H5T_STD_I64LE
                : info->type == GE_F64 ? H5T_IEEE_F64LE
                                       : H5T_IEEE_F32LE;
    return plan;
}

static const char *forge(struct fuzz_bytes *in)
{
    static const enum ge_field some[] = {GE_REPLICAS,
                                         GE_LOSS,
                                         GE_SIGMA2,
                                         GE_NOISE_TRACE,
                                         GE_GRAD_SQNORM,
                                         GE_BATCH_SIZE,
                                         GE_ECHO,
                                         GE_S_MEAN,
                                         GE_REPLICA_NOISE,
                                         GE_CORRELATION,
                                         GE_CORRELATION_PAIR,
                                         GE_LAYER_REPLICAS};
    static const char *const texts[] = {"session", "created",
                                        "gradecho_version", "config"};
    const uint8_t what = fuzz_u8(in);
    uint32_t wanted = fuzz_u16(in);
    hid_t file = forge_begin(what), name = H5Tcopy(H5T_C_S1);
    const struct forge_plan fixed[] = {
        {"layer", name, 1, {LAYERS}, 0},
        {"mode", H5T_STD_I32LE, 1, {MODES}, 0},
        {"replica", H5T_STD_I32LE, 1, {REPLICAS}, 0},
        {"rows", H5T_STD_U64LE, 1, {LAYERS}, 0},
        {"cols", H5T_STD_U64LE, 1, {LAYERS}, 0},
        {"step", H5T_STD_I64LE, 1, {ROWS}, 1},
    };

    H5Tset_size(name, 16);
    H5Tset_cset(name, H5T_CSET_UTF8); /* HDF5 does not convert from ASCII */
    forge_attribute(file, "gradecho_schema", GE_SCHEMA_VERSION, NULL, in);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        forge_attribute(file, texts[i], 0, "some text", in);
    forge_attribute(file, "world_size", 4, NULL, in);
    forge_attribute(file, "clean_close", 1, NULL, in);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        forge_dataset(file, &fixed[i], in);
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        const struct forge_plan plan = plan_of(some[i]);

        if ((wanted >> i & 1) != 0)
            forge_dataset(file, &plan, in);
    }
    H5Tclose(name);
    return forge_finish(file, in);
}

/* What inspect makes of it, as a table and as JSON. */
static void inspect(ge_log_reader *log)
{
    FILE *nowhere = fopen("/dev/null", "w");

    FUZZ_CHECK(nowhere != NULL);
    for (int modes = 0; modes < 2; modes++) {
        const struct ge_question question = {.path = "log",
                                             .layer = modes != 0 ? "*" : NULL,
                                             .step = -1,
                                             .since = modes != 0 ? 1 : -1};
        struct ge_digest digest = {0};

        if (ge_digest_load(log, &question, &digest) >= GRADECHO_OK) {
            digest.advice = true;
            fuzz_any(ge_inspect_table(&digest, modes != 0, nowhere));
            fuzz_any(ge_inspect_json(&digest, nowhere));
        }
        ge_digest_fini(&digest);
    }
    fclose(nowhere);
}

static void read_row(ge_log_reader *log)
{
    const struct ge_dimensions *dims = &ge_log_reader_facts(log)->dims;
    struct ge_row row = {0};

    if (ge_row_init(&row, dims) < GRADECHO_OK)
        return;
    fuzz_any(ge_log_read_row(log, 0, &row));
    ge_row_fini(&row);
    inspect(log);
}

static void read_all(ge_log_reader *log)
{
    const struct ge_log_facts *facts = ge_log_reader_facts(log);
    uint64_t rows = 0;
    int64_t steps[ROWS];

    FUZZ_CHECK(facts->session != NULL && facts->config != NULL);
    FUZZ_CHECK(facts->dims.layers > 0 && facts->dims.modes > 0);
    (void)strlen(facts->layers[facts->dims.layers - 1].name);
    if (ge_log_refresh(log, &rows) < GRADECHO_OK || rows == 0)
        return;
    fuzz_any(ge_log_steps(log, 0, rows < ROWS ? rows : ROWS, steps));
    FUZZ_CHECK(ge_log_steps(log, rows, 1, steps) == GRADECHO_E_INPUT);
    if (facts->dims.layers * (facts->dims.modes + facts->dims.replicas) <
        row_values_max)
        read_row(log);
}

void fuzz_once(const uint8_t *data, size_t size)
{
    struct fuzz_bytes in = {data, size};
    const char *path = forge(&in);
    ge_log_reader *log = NULL;

    const gradecho_status status = ge_log_open(path, &log);

    FUZZ_CHECK((status == GRADECHO_OK) == (log != NULL));
    FUZZ_CHECK(status == GRADECHO_OK || status == GRADECHO_E_INPUT ||
               status == GRADECHO_E_NOMEM);
    /* No odd decision: were that refused, all else would be, too, and nothing
     * behind the open be tested. libFuzzer begins with the empty input. */
    FUZZ_CHECK(size > 0 || status == GRADECHO_OK);
    if (log != NULL) {
        read_all(log);
        ge_log_reader_close(&log);
    }
    FUZZ_CHECK(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL) <= 0);
}
