/*
 * The end of a target without libFuzzer: every file that is named, or lies in a
 * folder that is named, is one input. Fails if there is none.
 */
#include "fuzz.h"

#include <dirent.h>
#include <stdio.h>

#include "message.h"

enum { INPUT_MAX = 1 << 20 };

/* False if it is no file that can be read. */
static int replay_file(const char *path)
{
    static uint8_t room[INPUT_MAX];
    FILE *file = fopen(path, "rb");
    uint8_t *exact = NULL;
    size_t size = 0;

    if (file == NULL)
        return 0;
    size = fread(room, 1, sizeof room, file);
    fclose(file);
    /* Of its own size, so that reading beyond it is seen. */
    exact = malloc(size > 0 ? size : 1);
    if (exact == NULL)
        return 0;
    memcpy(exact, room, size);
    fuzz_once(exact, size);
    free(exact);
    return 1;
}

static unsigned long replay(const char *path)
{
    unsigned long count = 0;
    DIR *folder = opendir(path);
    const struct dirent *entry = NULL;

    if (folder == NULL)
        return replay_file(path) ? 1 : 0;
    while ((entry = readdir(folder)) != NULL) {
        char *full = NULL;

        if (entry->d_name[0] == '.')
            continue;
        if (asprintf(&full, "%s/%s", path, entry->d_name) < 0)
            abort();
        count += replay_file(full) ? 1 : 0;
        free(full);
    }
    closedir(folder);
    return count;
}

int main(int argc, char **argv)
{
    unsigned long count = 0;

    ge_message_capture(1);
    for (int i = 1; i < argc; i++)
        count += replay(argv[i]);
    printf("%lu inputs\n", count);
    return count > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
