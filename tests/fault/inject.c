#include "inject_private.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

FAULT_EXPORT const char *const fault_class_names[FAULT_CLASSES] = {
    "memory", "system", "hdf5", "mpi", "lapack"};

static const char *const kind_names[FAULT_KINDS] = {
    "nothing", "memory", "file",         "mapping", "stream",
    "folder",  "hdf5",   "communicator", "request"};

enum { RANGES = 16, THINGS = 1 << 16, FAILED = 64, TEXT = 256 };

/* Program text that is ours. */
static struct range {
    uintptr_t start, end, base;
    const char *name;
    bool memory_only;
} ranges[RANGES];
static size_t range_count;

struct thing {
    enum fault_kind kind;
    uintptr_t value;
    const char *name;
    const void *caller;
};

/* One lock for all below; the fork handlers keep it sound in children. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic bool active;
static struct {
    enum fault_class class;
    unsigned long n;
    bool lasting;
} armed;
static unsigned long uses[FAULT_CLASSES];
static struct thing things[THINGS]; /* open addressing; kind 0: free */
static size_t thing_count;
static const char *failed[FAILED];
static size_t failed_count;
static char first[TEXT];
static char report_path[TEXT];

/* ---- whose call is it ---- */

static int add_range(struct dl_phdr_info *module, size_t size, void *data)
{
    const char *name = strrchr(module->dlpi_name, '/');
    const bool library_only = getenv("GRADECHO_FAULT_LIBRARY") != NULL;
    bool memory_only = false;

    (void)size;
    (void)data;
    name = name != NULL ? name + 1 : module->dlpi_name;
    memory_only = strncmp(name, "libyaml", 7) == 0 ||
                  strncmp(name, "libjansson", 10) == 0;
    if (strncmp(name, "libgradecho.", 12) != 0 &&
        (library_only || (name[0] != '\0' && !memory_only)))
        return 0; /* the program itself has no name */
    for (size_t i = 0; i < module->dlpi_phnum && range_count < RANGES; i++) {
        const ElfW(Phdr) *part = &module->dlpi_phdr[i];

        if (part->p_type != PT_LOAD || (part->p_flags & PF_X) == 0)
            continue;
        ranges[range_count++] = (struct range){
            .start = module->dlpi_addr + part->p_vaddr,
            .end = module->dlpi_addr + part->p_vaddr + part->p_memsz,
            .base = module->dlpi_addr,
            .name = name[0] != '\0' ? name : "program",
            .memory_only = memory_only};
    }
    return 0;
}

static const struct range *range_of(const void *caller)
{
    const uintptr_t at = (uintptr_t)caller;

    for (size_t i = 0; i < range_count; i++)
        if (at >= ranges[i].start && at < ranges[i].end)
            return &ranges[i];
    return NULL;
}

static bool is_ours(enum fault_class class, const void *caller)
{
    const struct range *range = range_of(caller);

    return range != NULL && (class == FAULT_MEMORY || !range->memory_only);
}

/* "FUNCTION MODULE+0xOFFSET", for addr2line. */
static void print_place(const char *name, const void *caller, char text[TEXT])
{
    const struct range *range = range_of(caller);

    snprintf(
        text, TEXT, "%s %s+%#lx", name, range != NULL ? range->name : "?",
        (unsigned long)((uintptr_t)caller - (range != NULL ? range->base : 0)));
}

/* ---- failing ---- */

static void report(const char *what, const char *text)
{
    char line[TEXT + 32];
    const int length = snprintf(line, sizeof line, "%s %s\n", what, text);
    const int fd = report_path[0] == '\0'
                       ? -1
                       : open(report_path,
                              O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    if (fd >= 0 && write(fd, line, (size_t)length) != length)
        abort();
    if (fd >= 0)
        close(fd);
}

static void note_failure(const char *name, const char text[TEXT])
{
    if (failed_count == 0)
        memcpy(first, text, TEXT);
    if (failed_count < FAILED)
        failed[failed_count++] = name;
}

bool fault_due(enum fault_class class, const char *name, const void *caller)
{
    char text[TEXT];
    bool due = false;

    /* A helper's calls come in no order that could be counted. */
    if (!active || gettid() != getpid() || !is_ours(class, caller))
        return false;
    pthread_mutex_lock(&lock);
    uses[class]++;
    due = armed.n > 0 && class == armed.class &&
          (uses[class] == armed.n || (armed.lasting && uses[class] > armed.n));
    if (due) {
        print_place(name, caller, text);
        note_failure(name, text);
    }
    pthread_mutex_unlock(&lock);
    if (due)
        report("failed", text); /* files: not under the lock */
    return due;
}

void fault_resolve(void *function, const char *name)
{
    void *found = NULL;

    memcpy(&found, function, sizeof found);
    if (found != NULL)
        return;
    found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        dprintf(STDERR_FILENO, "libfaults: no %s\n", name);
        abort();
    }
    memcpy(function, &found, sizeof found);
}

/* ---- what is held ---- */

static size_t home_of(enum fault_kind kind, uintptr_t value)
{
    const uint64_t mixed =
        ((uint64_t)value + (uint64_t)kind) * UINT64_C(0x9E3779B97F4A7C15);

    return (size_t)(mixed >> 48) % THINGS;
}

/* The place of a thing, or the free one where it would go. */
static size_t place_of(enum fault_kind kind, uintptr_t value)
{
    size_t at = home_of(kind, value);

    while (things[at].kind != FAULT_NOTHING &&
           (things[at].kind != kind || things[at].value != value))
        at = (at + 1) % THINGS;
    return at;
}

static void remove_at(size_t at)
{
    things[at] = (struct thing){0};
    thing_count--;
    /* What was pushed past this place moves up. */
    for (size_t next = (at + 1) % THINGS; things[next].kind != FAULT_NOTHING;
         next = (next + 1) % THINGS) {
        const struct thing moved = things[next];

        things[next] = (struct thing){0};
        things[place_of(moved.kind, moved.value)] = moved;
    }
}

void fault_hold(enum fault_class class, enum fault_kind kind, uintptr_t thing,
                const char *name, const void *caller)
{
    if (!active || !is_ours(class, caller))
        return;
    pthread_mutex_lock(&lock);
    const size_t at = place_of(kind, thing);

    if (things[at].kind == FAULT_NOTHING) /* else it was not seen to go */
        thing_count++;
    things[at] = (struct thing){kind, thing, name, caller};
    if (thing_count > THINGS / 2) {
        dprintf(STDERR_FILENO, "libfaults: too much is held\n");
        abort();
    }
    pthread_mutex_unlock(&lock);
}

void fault_drop(enum fault_kind kind, uintptr_t thing)
{
    if (kind == FAULT_NOTHING || !active)
        return;
    pthread_mutex_lock(&lock);
    const size_t at = place_of(kind, thing);

    if (things[at].kind != FAULT_NOTHING)
        remove_at(at);
    pthread_mutex_unlock(&lock);
}

/* ---- for a test program ---- */

FAULT_EXPORT void fault_arm(enum fault_class class, unsigned long n,
                            bool lasting)
{
    pthread_mutex_lock(&lock);
    memset(uses, 0, sizeof uses);
    memset(things, 0, sizeof things);
    thing_count = failed_count = 0;
    armed.class = class;
    armed.n = n;
    armed.lasting = lasting;
    active = true;
    pthread_mutex_unlock(&lock);
}

FAULT_EXPORT const char *fault_disarm(void)
{
    active = false;
    return failed_count > 0 ? first : NULL;
}

FAULT_EXPORT unsigned long fault_uses(enum fault_class class)
{
    return uses[class];
}

FAULT_EXPORT bool fault_failed(const char *function)
{
    for (size_t i = 0; i < failed_count; i++)
        if (strcmp(failed[i], function) == 0)
            return true;
    return false;
}

FAULT_EXPORT size_t fault_left(int fd)
{
    for (size_t i = 0; fd >= 0 && thing_count > 0 && i < THINGS; i++) {
        char text[TEXT];

        if (things[i].kind == FAULT_NOTHING)
            continue;
        print_place(things[i].name, things[i].caller, text);
        dprintf(fd, "left %s %s\n", kind_names[things[i].kind], text);
    }
    return thing_count;
}

/* ---- for a whole program ---- */

static void before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

/* A program that forks reports for itself alone. */
static void after_fork_in_child(void)
{
    pthread_mutex_unlock(&lock);
    active = false;
    report_path[0] = '\0';
}

static void read_environment(void)
{
    const char *what = getenv("GRADECHO_FAULT");
    const char *only = getenv("GRADECHO_FAULT_RANK");
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    const char *path = getenv("GRADECHO_FAULT_REPORT");
    enum fault_class class = FAULT_MEMORY;
    unsigned long n = 0;
    bool lasting = false;

    if (what == NULL || path == NULL)
        return;
    snprintf(report_path, sizeof report_path, "%s%s%s", path,
             rank != NULL ? "." : "", rank != NULL ? rank : "");
    for (int i = 0; i < FAULT_CLASSES; i++) {
        const size_t length = strlen(fault_class_names[i]);
        char *end = NULL;

        if (strncmp(what, fault_class_names[i], length) != 0 ||
            what[length] != ':')
            continue;
        class = (enum fault_class)i;
        n = strtoul(what + length + 1, &end, 10);
        lasting = *end == '+';
    }
    if (n == 0 && strcmp(what, "count") != 0) {
        dprintf(STDERR_FILENO, "libfaults: GRADECHO_FAULT=%s?\n", what);
        abort();
    }
    if (only != NULL && rank != NULL && strcmp(only, rank) != 0)
        n = 0;
    fault_arm(class, n, lasting);
}

__attribute__((constructor)) static void begin(void)
{
    dl_iterate_phdr(add_range, NULL);
    pthread_atfork(before_fork, after_fork, after_fork_in_child);
    read_environment();
}

__attribute__((destructor)) static void end(void)
{
    int fd = -1;

    if (report_path[0] == '\0')
        return;
    active = false;
    fd = open(report_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (int i = 0; i < FAULT_CLASSES; i++)
        dprintf(fd, "uses %s %lu\n", fault_class_names[i], uses[i]);
    fault_left(fd);
    close(fd);
}
