#include "agree.h"

/* Words of a ballot. A word that a monitor has no say in is at its minimum, so
 * that the maximum passes it over. */
enum {
    NEWEST,       /* front */
    MINUS_OLDEST, /* its negative: the maximum is the oldest front */
    READY,
    WAITING,
    CLOSED,
    STOP,
    GRAVEST, /* negative status */
    DROPPED
};

void ge_agree_vote(const struct ge_view *view, struct ge_ballot *ballot)
{
    *ballot = (struct ge_ballot){{
        [NEWEST] = view->ready ? view->newest : INT64_MIN,
        [MINUS_OLDEST] = view->ready ? -view->oldest : INT64_MIN,
        [READY] = view->ready,
        [WAITING] = view->waiting,
        [CLOSED] = view->closed,
        [STOP] = view->stop,
        [GRAVEST] = view->status < GRADECHO_OK ? -(int64_t)view->status : 0,
        [DROPPED] = (int64_t)view->dropped,
    }};
}

void ge_agree_decide(const struct ge_ballot *merged, struct ge_verdict *verdict)
{
    const int64_t *word = merged->word;

    *verdict = (struct ge_verdict){.step = word[NEWEST],
                                   .dropped = (uint64_t)word[DROPPED]};
    if (word[GRAVEST] > 0) {
        verdict->action = GE_VERDICT_FAIL;
        verdict->status = (gradecho_status)-word[GRAVEST];
    } else if (word[STOP] || (!word[READY] && !word[WAITING])) {
        verdict->action = GE_VERDICT_END;
    } else if (word[READY] &&
               (word[CLOSED] || -word[MINUS_OLDEST] != word[NEWEST])) {
        verdict->action = GE_VERDICT_ADVANCE;
        if (word[CLOSED])
            verdict->step = INT64_MAX; /* nothing is wanted any more */
    } else if (word[WAITING]) {
        verdict->action = GE_VERDICT_WAIT;
    } else {
        verdict->action = GE_VERDICT_MEASURE;
    }
}

void ge_agree_meet(struct ge_meeting *meeting, struct ge_verdict *verdict)
{
    if (verdict->action == GE_VERDICT_MEASURE) {
        meeting->missed = false;
        meeting->ahead -= meeting->ahead > 0;
    }
    if (verdict->action != GE_VERDICT_ADVANCE)
        return;
    if (meeting->missed && meeting->ahead == 0)
        meeting->ahead = 1;
    else if (meeting->missed && meeting->ahead < GE_MEETING_AHEAD_MAX)
        meeting->ahead *= 2;
    meeting->missed = true;
    if (verdict->step <= INT64_MAX - meeting->ahead * meeting->every)
        verdict->step += meeting->ahead * meeting->every;
}
