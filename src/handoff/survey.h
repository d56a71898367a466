/*
 * survey.h - what shared memory on this node has room for, and what is left of
 * dead trainers there. For people who look before they run; nothing is mapped.
 */
#ifndef GRADECHO_HANDOFF_SURVEY_H
#define GRADECHO_HANDOFF_SURVEY_H

#include <stdbool.h>
#include <stddef.h>

#include "gradecho/handoff.h"

/* The folder, for messages. */
extern const char *const ge_survey_folder;

/* Room in bytes. \return GRADECHO_E_SYS  it cannot be looked at */
GRADECHO_MUST_CHECK gradecho_status ge_survey_room(uint64_t *available,
                                                   uint64_t *total);

/* Make a small segment as a trainer does, without a name, and see that its
 * lock tells it alive.
 * \return GRADECHO_E_SYS, GRADECHO_E_NOSPACE, GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_survey_try(void);

/* Size of a trainer's segment with `entries` gradient entries in one layer; a
 * real one with many layers is larger by less than 0.5 KB for each of them.
 * 0 if it does not fit 64 bits. */
uint64_t ge_survey_need(uint64_t entries, gradecho_dtype dtype, uint32_t slots,
                        uint32_t replicas);

struct ge_survey_dead {
    size_t count, removed;
    uint64_t bytes;
    char example[256]; /* path of one */
};

/* Segments of this user, of any session, whose trainer is dead. With `clean`
 * they are removed, as the next trainer of their name would do.
 * \return GRADECHO_E_SYS  the folder cannot be read */
GRADECHO_MUST_CHECK gradecho_status ge_survey_dead(bool clean,
                                                   struct ge_survey_dead *dead);

/* The sessions of this user's live trainers, each once, with `between` between
 * them; "" if there is none. What does not fit is left out. */
void ge_survey_live(char between, char *names, size_t size);

#endif
