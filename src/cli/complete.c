/*
 * What a word of the command line can become, for the shell.
 */
#include <argp.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "message.h"
#include "reader.h"
#include "survey.h"

/* `prefix` is what of the word stays: "--format=". */
static void offer(const char *prefix, const char *candidate, const char *word,
                  FILE *out)
{
    if (strncmp(candidate, word, strlen(word)) == 0)
        fprintf(out, "%s%s\n", prefix, candidate);
}

static void offer_words(const char *prefix, const char *words, const char *word,
                        FILE *out)
{
    char one[64];

    for (size_t i = 0; ge_cli_word_at(words, i, one, sizeof one); i++)
        offer(prefix, one, word, out);
}

/* sample.every= and, behind the equals sign, the words of the key. */
static void offer_keys(const char *prefix, const char *word, FILE *out)
{
    struct ge_config_key key;

    for (size_t i = 0; ge_config_key(i, &key); i++) {
        char text[160];

        snprintf(text, sizeof text, "%s=", key.name);
        if (strncmp(word, text, strlen(text)) != 0)
            offer(prefix, text, word, out);
        for (size_t w = 0; key.words != NULL && key.words[w] != NULL &&
                           strchr(word, '=') != NULL;
             w++) {
            snprintf(text, sizeof text, "%s=%s", key.name, key.words[w]);
            offer(prefix, text, word, out);
        }
    }
}

/* The layers of the first log on the command line. */
static void offer_layers(const char *prefix, int count, char **words,
                         const char *word, FILE *out)
{
    const int before = ge_message_capture(1);
    ge_log_reader *reader = NULL;

    for (int i = 0; i < count - 1 && reader == NULL; i++)
        if (words[i][0] != '-' && access(words[i], R_OK) == 0 &&
            ge_log_open(words[i], &reader) >= GRADECHO_OK) {
            const struct ge_log_facts *facts = ge_log_reader_facts(reader);

            for (size_t l = 0; l < facts->dims.layers; l++)
                offer(prefix, facts->layers[l].name, word, out);
        }
    ge_log_reader_close(&reader);
    (void)ge_message_capture(before);
}

static void offer_sessions(const char *prefix, const char *word, FILE *out)
{
    char names[4096], one[256];

    ge_survey_live('|', names, sizeof names);
    for (size_t i = 0;
         names[0] != '\0' && ge_cli_word_at(names, i, one, sizeof one); i++)
        offer(prefix, one, word, out);
}

/* By the name that the help has for the value. */
static void offer_value(const struct argp_option *option, const char *prefix,
                        int count, char **words, const char *word, FILE *out)
{
    const char *kind = option->arg;

    if (strchr(kind, '|') != NULL)
        offer_words(prefix, kind, word, out);
    else if (strcmp(kind, "KEY=VALUE") == 0)
        offer_keys(prefix, word, out);
    else if (strcmp(kind, "GLOB") == 0)
        offer_layers(prefix, count, words, word, out);
    else if (strcmp(option->name, "session") == 0)
        offer_sessions(prefix, word, out);
    else if (strcmp(kind, "FILE") == 0 || strcmp(kind, "LOG") == 0)
        fputs(strcmp(option->name, "log") == 0 ? ":files h5\n" : ":files\n",
              out);
}

static const struct argp_option *find_long(const struct argp *argp,
                                           const char *name, size_t length)
{
    const struct argp_option *o = argp->options;

    for (; o != NULL && o->name != NULL; o++)
        if (strlen(o->name) == length && strncmp(o->name, name, length) == 0)
            return o;
    return NULL;
}

static const struct argp_option *find_short(const struct argp *argp, int key)
{
    const struct argp_option *o = argp->options;

    for (; o != NULL && o->name != NULL; o++)
        if (o->key == key)
            return o;
    return NULL;
}

/* The option whose value comes after this word. */
static const struct argp_option *option_before(const struct argp *argp,
                                               const char *word)
{
    const struct argp_option *o = NULL;

    if (strncmp(word, "--", 2) == 0)
        o = find_long(argp, word + 2, strlen(word + 2));
    else if (word[0] == '-' && strlen(word) == 2)
        o = find_short(argp, word[1]);
    return o != NULL && o->arg != NULL ? o : NULL;
}

static void offer_options(const struct argp *argp, const char *word, FILE *out)
{
    const struct argp_option *o = argp->options;
    char text[64];

    for (; o != NULL && o->name != NULL; o++) {
        if ((o->flags & OPTION_HIDDEN) != 0)
            continue;
        snprintf(text, sizeof text, "--%s", o->name);
        offer("", text, word, out);
        snprintf(text, sizeof text, "-%c", o->key);
        if (o->key > ' ' && o->key < 0x7F)
            offer("", text, word, out);
    }
    offer("", "--help", word, out);
}

void ge_complete_options(const struct argp *argp, int count, char **words,
                         FILE *out)
{
    const char *word = words[count - 1];
    const char *equals = strchr(word, '=');
    const struct argp_option *o = NULL;

    if (count > 1)
        o = option_before(argp, words[count - 2]);
    if (o != NULL) {
        offer_value(o, "", count, words, word, out);
    } else if (strncmp(word, "--", 2) == 0 && equals != NULL) {
        char prefix[64];

        o = find_long(argp, word + 2, (size_t)(equals - word) - 2);
        snprintf(prefix, sizeof prefix, "%.*s", (int)(equals + 1 - word), word);
        if (o != NULL && o->arg != NULL)
            offer_value(o, prefix, count, words, equals + 1, out);
    } else if (word[0] == '-') {
        offer_options(argp, word, out);
    } else if (argp->args_doc != NULL && argp->args_doc[0] != '\0') {
        fputs(":files h5\n", out);
    }
}

void ge_complete_command(int count, char **words, FILE *out)
{
    const char *word = count > 0 ? words[count - 1] : "";
    const bool help = count == 2 && strcmp(words[0], "help") == 0;

    if (count > 1 && !help)
        return;
    for (const struct ge_command *c = ge_commands; c->name != NULL; c++)
        offer("", c->name, word, out);
    if (help)
        return;
    offer("", "help", word, out);
    offer("", "--help", word, out);
    offer("", "--version", word, out);
}
