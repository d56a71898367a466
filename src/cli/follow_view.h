/*
 * follow_view.h - what the live view shows and in which order. No terminal.
 */
#ifndef GRADECHO_CLI_FOLLOW_VIEW_H
#define GRADECHO_CLI_FOLLOW_VIEW_H

#include "follow.h"

enum ge_view_sort {
    GE_SORT_NOISE,
    GE_SORT_ECHO,
    GE_SORT_NAME,
    GE_SORT_LOG,
    GE_SORTS
};

struct ge_view {
    struct ge_follow follow;
    enum ge_view_sort sort;
    char filter[64]; /* part of a name, or a glob; "": all */
    bool typing;     /* the filter is being typed */
    bool opened;     /* one layer is shown */
    bool moved;      /* the cursor was; before that it stays on top */
    size_t chosen;   /* layer under the cursor */
    size_t top;      /* first place of the list on the screen */
    size_t *order;   /* [layers] the layers that pass, in order */
    size_t count;    /* of them */
    bool unicode, colour;
};

/* Order the layers anew; call after the data, sort or filter changed.
 * \return GRADECHO_E_NOMEM */
GRADECHO_MUST_CHECK gradecho_status ge_view_arrange(struct ge_view *view);

/* Place of the chosen layer in the order; the nearest if it is not there. */
size_t ge_view_place(const struct ge_view *view);

/* Move the cursor by so many places. */
void ge_view_move(struct ge_view *view, long places);

/* Bytes that the names of all layers in the list begin with, up to a dot: what
 * a list without room for whole names can leave out. 0 if all fit in `width`
 * bytes. */
size_t ge_view_shared_prefix(const struct ge_view *view, size_t width);

const char *ge_view_sort_name(enum ge_view_sort sort);

/* The last `width` of `count` numbers, `stride` apart, as bars from the least
 * to the largest; `text` [3 * width + 1]. Missing: blank. Negative and
 * infinite noise scales have no bound: full bars. */
void ge_view_spark(const double *series, size_t count, size_t stride,
                   size_t width, bool unicode, char *text);

/* Echoes from 0 to 1 as bars; `text` [3 * width + 1]. */
void ge_view_bars(const double *echoes, size_t count, size_t width,
                  bool unicode, char *text);

/* Worst replica, worst pair, dropped, lag, as far as known; `brief`: for a
 * narrow terminal. */
void ge_view_health(const struct ge_view *view, double now, bool brief,
                    char *text, size_t size);

/* Draw all of it on the standard screen of ncurses. */
void ge_view_draw(struct ge_view *view);

#endif
