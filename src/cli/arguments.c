/*
 * Command lines: glibc's argp parses them, and what it has to say of a mistake
 * is told as everything else here is: once, in one line.
 */
#include <argp.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "suggest.h"
#include "try.h"

/* Help ends the program inside argp, as it should. */
static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-?") == 0 ||
            strcmp(argv[i], "--usage") == 0)
            return true;
    return false;
}

/* Before MPI is up the launcher's variables tell which rank this is; one of
 * many speaks. */
static bool is_first_rank(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK",
                                        "PMI_RANK"};

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *rank = getenv(names[i]);

        if (rank != NULL)
            return strcmp(rank, "0") == 0;
    }
    return true;
}

/* An option that there is not, in the words of getopt: which one is meant?
 * Returns `advice`. */
static const char *advise_option(const struct argp *argp, const char *text,
                                 char *advice, size_t size)
{
    static const char said[] = "unrecognized option '--";
    const char *at = strstr(text, said);
    char word[GE_SUGGEST_MAX];
    struct ge_suggestion s = {.word = word};

    advice[0] = '\0';
    if (at == NULL || argp->options == NULL)
        return advice;
    at += sizeof said - 1;
    snprintf(word, sizeof word, "%.*s", (int)strcspn(at, "='"), at);
    for (const struct argp_option *o = argp->options; o->name != NULL; o++)
        ge_suggest(&s, o->name);
    if (ge_suggested(&s) != NULL)
        snprintf(advice, size, "; is --%s meant?", ge_suggested(&s));
    return advice;
}

/* What the command line's tables can be asked for besides --help. */
static bool is_told(const struct argp *argp, int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--help=man") == 0)
        ge_page_command(argp, argv[0], stdout);
    else if (argc > 2 && strcmp(argv[1], GE_COMPLETE) == 0)
        ge_complete_options(argp, argc - 2, argv + 2, stdout);
    else
        return false;
    return true;
}

int ge_cli_parse(const struct argp *argp, int argc, char **argv, void *input)
{
    FILE *terminal = stderr, *captured = NULL;
    char *text = NULL;
    size_t size = 0;
    error_t failed = 0;
    char advice[GE_SUGGEST_MAX + 32];

    if (is_told(argp, argc, argv))
        exit(GE_EXIT_OK);
    if (!asks_for_help(argc, argv))
        captured = open_memstream(&text, &size);
    if (captured != NULL)
        stderr = captured; /* getopt below argp writes there, too */
    failed = argp_parse(argp, argc, argv, captured != NULL ? ARGP_NO_EXIT : 0,
                        NULL, input);
    stderr = terminal;
    if (captured != NULL)
        fclose(captured);
    if (failed != 0 && (text == NULL || text[0] == '\0')) {
        /* Not a mistake of the user, nor one that all ranks make. */
        ge_error("cannot read the command line: %s", strerror(failed));
    } else if (failed != 0 && is_first_rank()) {
        /* "gradecho replay: what is wrong", then lines of general advice. */
        text[strcspn(text, "\n")] = '\0';
        fprintf(stderr, "%s%s; see %s --help\n", text,
                advise_option(argp, text, advice, sizeof advice), argv[0]);
    } else if (failed != 0) {
        (void)poll(NULL, 0, 1000); /* mpirun ends all when the first one does */
    }
    free(text);
    return failed != 0 ? GE_EXIT_USAGE : GE_EXIT_OK;
}

int ge_cli_unexpected(struct argp_state *state, const char *value)
{
    argp_error(state, "unexpected argument %s", value);
    return EINVAL;
}

int ge_cli_path(struct argp_state *state, char *value, const char **path)
{
    if (*path != NULL)
        return ge_cli_unexpected(state, value);
    *path = value;
    return 0;
}

int ge_cli_whole(struct argp_state *state, const char *option,
                 const char *value, long long least, long long most,
                 long long *out)
{
    char *end = NULL;

    errno = 0;
    const long long number = strtoll(value, &end, 10);

    if (end == value || *end != '\0' || errno != 0 || number < least ||
        number > most) {
        if (most < INT64_MAX)
            argp_error(state,
                       "%s must be a whole number from %lld to %lld, "
                       "not %s",
                       option, least, most, value);
        else
            argp_error(state, "%s must be a whole number, not %s", option,
                       value);
        return EINVAL;
    }
    *out = number;
    return 0;
}

bool ge_cli_word_at(const char *words, size_t n, char *word, size_t size)
{
    for (; n > 0; n--) {
        words += strcspn(words, "|");
        if (*words == '\0')
            return false;
        words++;
    }
    snprintf(word, size, "%.*s", (int)strcspn(words, "|"), words);
    return true;
}

int ge_cli_word(struct argp_state *state, const char *option, const char *value,
                const char *words, size_t *out)
{
    struct ge_suggestion near = {.word = value};
    char word[GE_SUGGEST_MAX], next[GE_SUGGEST_MAX], list[256] = "";

    for (size_t i = 0; ge_cli_word_at(words, i, word, sizeof word); i++) {
        const size_t used = strlen(list);

        if (strcmp(value, word) == 0) {
            *out = i;
            return 0;
        }
        ge_suggest(&near, word);
        snprintf(list + used, sizeof list - used, "%s%s",
                 i == 0                                            ? ""
                 : ge_cli_word_at(words, i + 1, next, sizeof next) ? ", "
                                                                   : " or ",
                 word);
    }
    const char *meant = ge_suggested(&near);

    argp_error(state, "%s must be %s, not %s%s%s%s", option, list, value,
               meant != NULL ? "; is " : "", meant != NULL ? meant : "",
               meant != NULL ? " meant?" : "");
    return EINVAL;
}
