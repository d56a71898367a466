/* A trace, in words. */
#include "parts.h"

#include <stdio.h>
#include <string.h>

static const char *const action_text[WHATS] = {
    [BEGIN] = "begins",
    [SKIP] = "lets its step pass",
    [PUBLISH] = "publishes",
    [CLOSE] = "closes",
    [DIE] = "dies",
    [COME_BACK] = "comes back",
    [JOB_STARTS] = "monitors find all trainers",
    [JOB_IS_KILLED] = "monitors are killed",
    [ENABLE] = "enables a trainer",
    [LOOK] = "looks",
    [MERGE] = "monitors vote",
    [ACT] = "does what was voted"};

static void tell_action(struct action action, char *text, size_t size)
{
    const char *what = action_text[action.what];

    if (action.what <= COME_BACK)
        snprintf(text, size, "trainer %d %s", action.who, what);
    else if (action.what == ENABLE || action.what == LOOK || action.what == ACT)
        snprintf(text, size, "monitor %d %s", action.who, what);
    else
        snprintf(text, size, "%s", what);
}

static void tell_set(uint32_t set, char *text)
{
    *text = '\0';
    for (int step = 0; step < STEPS_MAX; step++)
        if ((set >> step & 1) != 0)
            text += sprintf(text, " %d", step);
}

static void tell_trainer(const struct trainer *t, char *text, size_t size)
{
    static const char *const life[] = {"", " closed", " dead"};
    static const char *const look[] = {"", " empty?", " gone?", ""};
    char samples[STEPS_MAX * 3 + 1], front[32] = "";

    tell_set(queue(t), samples);
    if (t->ready)
        snprintf(front, sizeof front, " front %d", t->step);
    else if (t->listened)
        snprintf(front, sizeof front, "%s",
                 !t->live          ? " given up"
                 : t->look == SEEN ? " nothing"
                                   : look[t->look]);
    snprintf(text, size, "[step %d%s%s%s queue {%s }%s]", t->next,
             t->begun ? " begun" : "", life[t->life], t->back ? " back" : "",
             samples, front);
}

void model_tell(const struct state *after, struct action action, char *text,
                size_t size)
{
    char what[64], trainer[TRAINERS][128];

    tell_action(action, what, sizeof what);
    for (int t = 0; t < TRAINERS; t++)
        tell_trainer(&after->trainer[t], trainer[t], sizeof trainer[t]);
    snprintf(text, size, "%-30s %s %s %s", what, trainer[0], trainer[1],
             trainer[2]);
}
