#include "char_text.h"

#include "char_random.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define LICENCES "/usr/share/common-licenses"
#define CHUNK ((size_t)1 << 20)
/* Less is no text to learn a language from: look for another one. */
#define DEFAULT_MIN ((size_t)1 << 15)

static int refuse(const char *path, const char *why)
{
    (void)fprintf(stderr, "char_lm: error: cannot read %s: %s\n", path, why);
    return -1;
}

static int append_file(struct text *text, const char *path)
{
    FILE *file = fopen(path, "rbe");
    size_t got = 0;
    const char *why = NULL;

    if (file == NULL)
        return refuse(path, strerror(errno));
    do {
        unsigned char *wider = realloc(text->symbol, text->length + CHUNK);

        if (wider == NULL) {
            why = "out of memory";
            break;
        }
        text->symbol = wider;
        got = fread(wider + text->length, 1, CHUNK, file);
        text->length += got;
        if (text->length > TEXT_MAX)
            why = "more than 1 GiB";
        else if (ferror(file))
            why = strerror(errno);
    } while (got > 0 && why == NULL);
    (void)fclose(file); /* read only: nothing can be lost here */
    return why == NULL ? 0 : refuse(path, why);
}

/* Append the regular files of a folder in the order of their names. Symbolic
 * links are skipped: among the licences they repeat a text. A folder that is
 * not there has no files. */
static int append_folder(struct text *text, const char *folder)
{
    struct dirent **entries = NULL;
    const int count = scandir(folder, &entries, NULL, alphasort);
    int result = 0;

    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        struct stat info;
        const int length =
            snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name);

        if (result == 0 && length < (int)sizeof(path) &&
            lstat(path, &info) == 0 && S_ISREG(info.st_mode))
            result = append_file(text, path);
        free(entries[i]);
    }
    free((void *)entries);
    return result;
}

static int append_default(struct text *text, const char *source)
{
    char path[PATH_MAX];

    if (append_folder(text, LICENCES) != 0)
        return -1;
    if (text->length >= DEFAULT_MIN)
        return 0;
    (void)snprintf(path, sizeof(path), "%s/README.md", source);
    if (append_file(text, path) != 0)
        return -1;
    (void)snprintf(path, sizeof(path), "%s/docs", source);
    return append_folder(text, path);
}

int text_read(struct text *text, const char *path, const char *source)
{
    *text = (struct text){0};
    if (path != NULL ? append_file(text, path) == 0
                     : append_default(text, source) == 0)
        return 0;
    text_free(text);
    return -1;
}

void text_encode(struct text *text)
{
    size_t count[256] = {0};
    unsigned char index[256] = {0};

    for (size_t i = 0; i < text->length; i++)
        count[text->symbol[i]]++;
    text->vocabulary = 0;
    text->entropy = 0.0;
    for (int byte = 0; byte < 256; byte++) {
        const double share = (double)count[byte] / (double)text->length;

        if (count[byte] == 0)
            continue;
        index[byte] = (unsigned char)text->vocabulary++;
        text->entropy -= share * log(share);
    }
    for (size_t i = 0; i < text->length; i++)
        text->symbol[i] = index[text->symbol[i]];
}

/* Swap two blocks that do not overlap. */
static void swap_blocks(unsigned char *a, unsigned char *b, size_t block)
{
    for (size_t i = 0; i < block; i++) {
        const unsigned char kept = a[i];

        a[i] = b[i];
        b[i] = kept;
    }
}

void text_shuffle(struct text *text, size_t length, size_t block, uint64_t seed)
{
    uint64_t state = seed;

    for (size_t left = length / block; left > 1; left--) {
        const size_t pick = (size_t)random_below(&state, left);

        if (pick != left - 1)
            swap_blocks(text->symbol + pick * block,
                        text->symbol + (left - 1) * block, block);
    }
}

void text_free(struct text *text)
{
    free(text->symbol);
    *text = (struct text){0};
}
