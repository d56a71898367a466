/*
 * gradecho doctor: shared memory for the segments, and memory for all of it.
 */
#include "doctor.h"
#include "machine.h"
#include "survey.h"

static const double gb = 1e9;

/* What would fit, when nobody says what is needed. */
static void say_what_fits(struct ge_doctor *d, uint64_t room)
{
    const uint64_t one = 1000000;
    const uint64_t each =
        ge_survey_need(one, d->dtype, d->slots, d->replicas) / one;
    const uint64_t most = room / each / d->trainers;

    ge_doctor_say(d, GE_FINE, "shared memory",
                  "%.2f GB free in %s: room for %u trainers of up to %.4g M "
                  "%s parameters (tell --parameters to check yours)",
                  (double)room / gb, ge_survey_folder, d->trainers,
                  (double)most / 1e6, d->dtype_name);
}

static void check_room(struct ge_doctor *d, uint64_t each)
{
    const double needed = (double)each * d->trainers;
    uint64_t room = 0, total = 0;

    if (ge_survey_room(&room, &total) < GRADECHO_OK) {
        ge_doctor_say_last(d, "shared memory", "");
        return;
    }
    if (d->parameters == 0) {
        say_what_fits(d, room);
        return;
    }
    if (needed <= (double)room) {
        ge_doctor_say(d, GE_FINE, "shared memory",
                      "%.2f GB free in %s, %.2f GB needed by %u trainers",
                      (double)room / gb, ge_survey_folder, needed / gb,
                      d->trainers);
        return;
    }
    /* Size that it must have: what is used now stays. */
    const double size = needed + (double)(total - room);
    ge_doctor_say(d, GE_PROBLEM, "shared memory",
                  "%.2f GB free in %s, %.2f GB needed by %u trainers: mount -o "
                  "remount,size=%.0fM %s, or docker run --shm-size=%.0fm",
                  (double)room / gb, ge_survey_folder, needed / gb, d->trainers,
                  size / 1048576.0 + 1.0, ge_survey_folder,
                  size / 1048576.0 + 1.0);
}

/* Segments are memory, too; a monitor adds one mean of the model. */
static void check_memory(struct ge_doctor *d, uint64_t each)
{
    const double needed =
        ((double)each + 4.0 * (double)d->parameters) * d->trainers;
    uint64_t available = 0, total = 0;

    if (d->parameters == 0 || !ge_machine_memory("", &available, &total))
        return;
    if (needed > (double)total)
        ge_doctor_say(d, GE_PROBLEM, "memory",
                      "%.2f GB in all, %.2f GB needed by %u trainers' segments "
                      "and their monitors: use fewer slots or replicas, or "
                      "hand over fewer layers",
                      (double)total / gb, needed / gb, d->trainers);
    else
        ge_doctor_say(d, needed > (double)available ? GE_WARNING : GE_FINE,
                      "memory",
                      "%.2f GB available, %.2f GB needed by %u trainers' "
                      "segments and their monitors%s",
                      (double)available / gb, needed / gb, d->trainers,
                      needed > (double)available
                          ? ": end other programs, or use fewer slots"
                          : "");
}

void ge_doctor_memory(struct ge_doctor *d)
{
    const uint64_t each =
        ge_survey_need(d->parameters, d->dtype, d->slots, d->replicas);

    if (ge_survey_try() < GRADECHO_OK) {
        ge_doctor_say_last(d, "shared memory", "");
        return;
    }
    if (each == 0) {
        ge_doctor_say(d, GE_PROBLEM, "shared memory",
                      "a segment would be larger than any address: fewer "
                      "parameters, slots or replicas");
        return;
    }
    check_room(d, each);
    check_memory(d, each);
}
