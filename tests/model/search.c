#include "search.h"
#include "parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct state state; /* reduced */
    uint32_t parent;
};

struct graph {
    struct node *node; /* in order of distance */
    uint32_t nodes, room;
    uint32_t *table; /* 1 + number, open addressing */
    uint32_t slots;  /* a power of two */
};

static void *checked(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "no memory for so many states\n");
        exit(1);
    }
    return memory;
}

static uint64_t hash(const struct state *s)
{
    uint64_t word[sizeof *s / sizeof(uint64_t)], h = 0;

    memcpy(word, s, sizeof *s);
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        h = (h ^ word[i]) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 29;
    }
    return h;
}

static uint32_t *find(const struct graph *g, const struct state *s)
{
    uint64_t at = hash(s);

    for (;; at++) {
        uint32_t *slot = &g->table[at & (g->slots - 1)];

        if (*slot == 0 || memcmp(&g->node[*slot - 1].state, s, sizeof *s) == 0)
            return slot;
    }
}

static void grow(struct graph *g)
{
    g->room = g->room == 0 ? 1 << 14 : 2 * g->room;
    g->slots = 2 * g->room;
    g->node = checked(realloc(g->node, g->room * sizeof *g->node));
    memset(g->node + g->nodes, 0, (g->room - g->nodes) * sizeof *g->node);
    free(g->table);
    g->table = checked(calloc(g->slots, sizeof *g->table));
    for (uint32_t n = 0; n < g->nodes; n++)
        *find(g, &g->node[n].state) = n + 1;
}

/* True if the state is new. */
static bool add(struct graph *g, const struct state *s, uint32_t parent)
{
    if (g->nodes == g->room)
        grow(g);
    uint32_t *slot = find(g, s);

    if (*slot != 0)
        return false;
    memcpy(&g->node[g->nodes].state, s, sizeof *s);
    g->node[g->nodes].parent = parent;
    *slot = ++g->nodes;
    return true;
}

static int depth_of(const struct graph *g, uint32_t n)
{
    int depth = 0;

    for (; n != 0; n = g->node[n].parent)
        depth++;
    return depth;
}

/* Go the way again, with trainers that keep their names: at each state, any
 * action that leads to one that is reduced to the next on the way. */
static void print_way(struct search *search, const struct graph *g, uint32_t n,
                      const struct action *last)
{
    const int depth = depth_of(g, n);
    uint32_t *way = checked(calloc((size_t)depth + 1, sizeof *way));
    struct state s;
    char text[512];

    for (int i = depth; i >= 0; i--, n = g->node[n].parent)
        way[i] = n;
    model_start(&search->model, &s);
    for (int i = 1; i <= depth; i++) {
        struct action list[ACTIONS_MAX];
        const int count = model_actions(&search->model, &s, list);

        for (int a = 0; a < count; a++) {
            struct state next, reduced;

            memcpy(&next, &s, sizeof s);
            if (!model_do(&search->model, &next, list[a]))
                continue;
            memcpy(&reduced, &next, sizeof s);
            model_reduce(&search->model, &reduced);
            if (memcmp(&reduced, &g->node[way[i]].state, sizeof s) == 0) {
                memcpy(&s, &next, sizeof s);
                model_tell(&s, list[a], text, sizeof text);
                printf("  %3d %s\n", i, text);
                break;
            }
        }
    }
    if (last != NULL) {
        model_tell(&s, *last, text, sizeof text);
        printf("  %3d %s\n", depth + 1, text);
    }
    free(way);
}

static bool expand(struct search *search, struct graph *g, uint32_t n,
                   struct action *last)
{
    struct action list[ACTIONS_MAX];
    struct model *model = &search->model;
    const int count = model_actions(model, &g->node[n].state, list);

    if (count == 0 && !model_is_over(&g->node[n].state))
        return BROKEN(model, "deadlock");
    const int settled = model_settled(model, &g->node[n].state, list, count);

    for (int a = 0; a < count; a++) {
        const unsigned long long waits = model->verdicts[GE_VERDICT_WAIT];
        struct state s;

        if (settled >= 0 && a != settled)
            continue;
        *last = list[a];
        search->actions++;
        memcpy(&s, &g->node[n].state, sizeof s);
        if (!model_do(model, &s, list[a]))
            return false;
        model_reduce(model, &s);
        if (!add(g, &s, n) || model->verdicts[GE_VERDICT_WAIT] == waits)
            continue;
        search->went_on = !model_goes_on(model, &s);
        if (search->went_on)
            return false;
    }
    return true;
}

bool search_all(struct search *search, bool print)
{
    struct graph g = {0};
    struct state start;
    struct action last = {0};
    bool right = true;

    grow(&g);
    model_start(&search->model, &start);
    model_reduce(&search->model, &start);
    add(&g, &start, 0);
    for (uint32_t n = 0; right && n < g.nodes; n++) {
        right = expand(search, &g, n, &last);
        if (!right)
            search->depth = depth_of(&g, n) + 1;
        if (!right && print) {
            char why[WHY_MAX];

            memcpy(why, search->model.why, sizeof why);
            print_way(search, &g, n, &last);
            memcpy(search->model.why, why, sizeof why);
            printf("  %s%s\n",
                   search->went_on ? "and then the trainers go on in step: "
                                   : "",
                   why);
        }
    }
    search->states = g.nodes;
    search->depth = right ? depth_of(&g, g.nodes - 1) : search->depth;
    free(g.node);
    free(g.table);
    return right;
}
