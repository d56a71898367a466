/*
 * --follow without a terminal: a line per sample, flushed.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <string.h>

#include "follow.h"
#include "try.h"

enum { FIGURES = 7 };

static const enum ge_field fields[FIGURES] = {
    GE_LOSS,    GE_REPLICAS,          GE_MODEL_NOISE_SCALE_SMOOTH,
    GE_DROPPED, GE_MODEL_NOISE_SCALE, GE_CORRELATION,
    GE_ALARMS};
enum { LOSS, REPLICAS, SMOOTH, DROPPED, SCALE, CORRELATION, ALARMS };

static gradecho_status print_row(ge_log_reader *reader, uint64_t row,
                                 long long since)
{
    gradecho_status status = GRADECHO_OK;
    double values[FIGURES];
    char alarms[256];
    char loss[32], smooth[32], scale[32], correlation[32];
    int64_t step = 0;

    GE_TRY(ge_log_steps(reader, row, 1, &step));
    if (step < since)
        return GRADECHO_OK;
    for (int f = 0; f < FIGURES; f++)
        GE_TRY(ge_log_read(reader, fields[f], row, 1, &values[f]));
    printf("step %" PRId64 ": loss %s, noise scale %s (smoothed %s), replicas "
           "%.0f, worst pair %s, dropped %.0f%s%s\n",
           step, ge_show_number(values[LOSS], loss, sizeof loss),
           ge_show_scale(values[SCALE], scale, sizeof scale),
           ge_show_scale(values[SMOOTH], smooth, sizeof smooth),
           values[REPLICAS],
           ge_show_number(values[CORRELATION], correlation, sizeof correlation),
           values[DROPPED], values[ALARMS] > 0.0 ? ", alarms " : "",
           ge_alarm_names(values[ALARMS], alarms, sizeof alarms));
    GE_FAIL_IF(fflush(stdout) != 0, GRADECHO_E_SYS,
               "cannot write to standard output: %s", strerror(errno));
fail:
    return status;
}

gradecho_status ge_follow_lines(const struct ge_question *question)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_follow follow = {.question = question};
    enum ge_follow_state state = GE_FOLLOW_LIVE;
    unsigned file = 0;
    uint64_t told = 0;

    while (true) {
        if (ge_follow_poll(&follow) && follow.state == GE_FOLLOW_WAITING &&
            (state != GE_FOLLOW_WAITING || file != follow.replaced))
            ge_info("%s: waiting: %s", question->path, follow.reason);
        else if (follow.state == GE_FOLLOW_CUT_OFF &&
                 state != GE_FOLLOW_CUT_OFF)
            ge_info("%s: its writer was killed; waiting for the next",
                    question->path);
        state = follow.state;
        if (file != follow.replaced)
            told = 0;
        file = follow.replaced;
        while (follow.loaded && follow.reader != NULL && told < follow.rows)
            GE_TRY(print_row(follow.reader, told++, question->since));
        if (state == GE_FOLLOW_CLOSED)
            break;
        (void)poll(NULL, 0, GE_FOLLOW_PERIOD_MS);
    }
fail:
    ge_follow_fini(&follow);
    return status;
}
