/*
 * search.h - every state that a model can come to, nearest first.
 */
#ifndef SEARCH_H
#define SEARCH_H

#include "model.h"

struct search {
    struct model model;
    unsigned long long states, actions;
    int depth;    /* actions from the start to the farthest state */
    bool went_on; /* broken only as the trainers went on: model_goes_on() */
};

/* False if a property is broken: model.why says which, and the shortest way to
 * it is printed. */
bool search_all(struct search *search, bool print);

#endif
