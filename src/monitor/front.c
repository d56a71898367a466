#include "front.h"

void ge_front_see(struct ge_front *front, enum ge_sight sight, int64_t step,
                  struct ge_ending *ending)
{
    front->ready = sight == GE_SIGHT_SAMPLE;
    front->live = front->ready || sight == GE_SIGHT_NOTHING;
    if (front->ready)
        front->step = step;
    if (sight == GE_SIGHT_CLOSED)
        ending->closed = true;
    if (sight == GE_SIGHT_LOST && ending->stop_on_loss)
        ending->stop = true;
}

bool ge_front_is_older(const struct ge_front *front, int64_t step)
{
    return front->ready && front->step < step;
}

void ge_front_add(const struct ge_front *front, const struct ge_ending *ending,
                  struct ge_view *view)
{
    view->closed = view->closed || ending->closed;
    view->stop = view->stop || ending->stop;
    if (front->ready) {
        if (!view->ready || front->step < view->oldest)
            view->oldest = front->step;
        if (!view->ready || front->step > view->newest)
            view->newest = front->step;
        view->ready = true;
    } else if (front->live) {
        view->waiting = true;
    }
}
