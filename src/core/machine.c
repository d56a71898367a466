#include "machine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { PATH_SIZE = 4096 };

static FILE *open_in(const char *folder, const char *name)
{
    char path[PATH_SIZE + 64];

    snprintf(path, sizeof path, "%s/%s", folder, name);
    return fopen(path, "re");
}

/* The number behind `key` in a file of lines, or at its beginning if key is "";
 * `unknown` if it is not there, or a word. */
static uint64_t read_number(const char *folder, const char *name,
                            const char *key, uint64_t unknown)
{
    const size_t length = strlen(key);
    FILE *file = open_in(folder, name);
    uint64_t number = unknown;
    char line[128];

    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, length) == 0) {
            if (sscanf(line + length, "%" SCNu64, &number) != 1)
                number = unknown;
            break;
        }
    if (file != NULL)
        fclose(file);
    return number;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* One control group's limit on what was found so far. */
static void limit_by(const char *group, uint64_t *available, uint64_t *total)
{
    const uint64_t limit = read_number(group, "memory.max", "", UINT64_MAX);
    const uint64_t used = read_number(group, "memory.current", "", 0);
    const uint64_t cache =
        read_number(group, "memory.stat", "active_file ", 0) +
        read_number(group, "memory.stat", "inactive_file ", 0);
    const uint64_t left = less(limit, less(used, cache));

    if (limit == UINT64_MAX)
        return;
    *total = limit < *total ? limit : *total;
    *available = left < *available ? left : *available;
}

/* The group of this process and those around it. One that cannot be seen, as
 * from within a container, is passed over. */
static void limit_by_groups(const char *root, uint64_t *available,
                            uint64_t *total)
{
    char path[PATH_SIZE] = "", line[PATH_SIZE] = "";
    FILE *file = open_in(root, "proc/self/cgroup");
    size_t top = 0;

    while (file != NULL && fgets(line, sizeof line, file) != NULL &&
           strncmp(line, "0::/", 4) != 0)
        line[0] = '\0';
    if (file != NULL)
        fclose(file);
    line[strcspn(line, "\n")] = '\0';
    top = (size_t)snprintf(path, sizeof path, "%s/sys/fs/cgroup", root);
    if (top + strlen(line) >= sizeof path)
        return;
    snprintf(path + top, sizeof path - top, "%s",
             line[0] != '\0' ? line + 3 : "");
    for (char *end = path + strlen(path); end >= path + top;) {
        *end = '\0';
        limit_by(path, available, total);
        do
            end--;
        while (end >= path + top && *end != '/');
    }
}

bool ge_machine_memory(const char *root, uint64_t *available, uint64_t *total)
{
    char proc[PATH_SIZE];

    snprintf(proc, sizeof proc, "%s/proc", root);
    const uint64_t most = UINT64_MAX / 1024;
    const uint64_t all = read_number(proc, "meminfo", "MemTotal:", most);
    const uint64_t free = read_number(proc, "meminfo", "MemAvailable:", most);

    *total = *available = UINT64_MAX;
    if (all >= most || free >= most)
        return false;
    *total = all * 1024;
    *available = free * 1024;
    limit_by_groups(root, available, total);
    return true;
}
