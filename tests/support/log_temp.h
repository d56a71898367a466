/* log_temp.h - a scratch folder per test program, and small file helpers. */
#ifndef LOG_TEMP_H
#define LOG_TEMP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "temp_name.h"

struct temp {
    char folder[200], path[256], other[256];
};

static inline int temp_setup(void **state)
{
    struct temp *temp = calloc(1, sizeof *temp);

    if (temp == NULL)
        return -1;
    temp_name(temp->folder, sizeof temp->folder, "test");
    *state = temp;
    if (mkdtemp(temp->folder) == NULL)
        return -1;
    snprintf(temp->path, sizeof temp->path, "%s/a.h5", temp->folder);
    snprintf(temp->other, sizeof temp->other, "%s/b.h5", temp->folder);
    return 0;
}

/* Fails if a test left more behind than the two files. */
static inline int temp_teardown(void **state)
{
    struct temp *temp = *state;
    int left = 0;

    unlink(temp->path);
    unlink(temp->other);
    left = rmdir(temp->folder);
    if (left != 0)
        fprintf(stderr, "files are left behind in %s\n", temp->folder);
    free(temp);
    return left;
}

static inline void temp_write(const char *path, const char *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");

    if (file == NULL)
        abort();
    fwrite(bytes, 1, size, file);
    fclose(file);
}

static inline long long temp_size(const char *path)
{
    struct stat about;

    return stat(path, &about) == 0 ? (long long)about.st_size : -1;
}

#endif
