/*
 * Manual pages, in man(7), from the tables that --help and the configuration
 * are made of: nothing is told twice.
 */
#include <argp.h>
#include <ctype.h>
#include <string.h>

#include "cli.h"
#include "gradecho/version.h"

struct page {
    FILE *out;
    size_t column; /* of the line in `out` */
};

enum { LINE = 64 }; /* a blank behind it becomes the line's end */

/* Requests and other troff, as they are. */
static void put_raw(struct page *page, const char *text)
{
    const char *end = strrchr(text, '\n');

    fputs(text, page->out);
    page->column = end != NULL ? strlen(end + 1) : page->column + strlen(text);
}

/* A character that stands for itself: a hyphen is one, a backslash too, and
 * nothing at the start of a line is a request. */
static void put_char(struct page *page, char c)
{
    const char self[] = {c, '\0'};

    if (page->column == 0 && (c == '.' || c == '\''))
        put_raw(page, "\\&");
    put_raw(page, c == '-' ? "\\-" : c == '\\' ? "\\e" : self);
}

static void put_literally(struct page *page, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        put_char(page, text[i]);
}

/* Words in lines of some length; those between backquotes are bold. */
static void put_words(struct page *page, const char *text, size_t length)
{
    bool bold = false;

    for (size_t i = 0; i < length; i++)
        if (text[i] == '`') {
            bold = !bold;
            put_raw(page, bold ? "\\fB" : "\\fR");
        } else if (text[i] == ' ' && page->column > LINE) {
            put_raw(page, "\n");
        } else {
            put_char(page, text[i]);
        }
}

static void put_line(struct page *page, const char *text)
{
    put_words(page, text, strlen(text));
    put_raw(page, "\n");
}

static void put_section(struct page *page, const char *name)
{
    put_raw(page, ".SH ");
    put_raw(page, name);
    put_raw(page, "\n");
}

static void begin_example(struct page *page)
{
    put_raw(page, ".RS 4\n.EX\n");
}

static void end_example(struct page *page)
{
    put_raw(page, ".EE\n.RE\n");
}

/* Help as it is written: lines that begin with a blank are examples, an empty
 * line begins a paragraph. */
static void put_prose(struct page *page, const char *text)
{
    bool example = false, gap = false;

    for (; *text != '\0'; text += *text == '\n') {
        const size_t length = strcspn(text, "\n");
        const size_t blanks = strspn(text, " ");

        if (length == 0) {
            gap = true;
            text += length;
            continue;
        }
        if (example && blanks == 0) {
            end_example(page);
            gap = true;
        }
        if (gap && blanks == 0)
            put_raw(page, ".PP\n");
        if (!example && blanks > 0)
            begin_example(page);
        gap = false;
        example = blanks > 0;
        if (example)
            put_literally(page, text + blanks, length - blanks);
        else
            put_words(page, text, length);
        put_raw(page, "\n");
        text += length;
    }
    if (example)
        end_example(page);
}

/* "gradecho inspect" is the page gradecho-inspect. */
static void put_title(struct page *page, const char *name, int section,
                      const char *what)
{
    char title[80], number[16];

    snprintf(title, sizeof title, "%s", name);
    snprintf(number, sizeof number, " %d ", section);
    for (char *c = title; *c != '\0'; c++)
        *c = (char)(*c == ' ' ? '-' : toupper((unsigned char)*c));
    put_raw(page, ".TH ");
    put_literally(page, title, strlen(title));
    put_raw(page, number);
    put_raw(page, "\"\" \"gradecho " GRADECHO_VERSION "\" \"gradecho\"\n");
    put_section(page, "NAME");
    for (char *c = title; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    put_literally(page, title, strlen(title));
    put_raw(page, " \\- ");
    put_line(page, what);
}

static void put_option(struct page *page, const struct argp_option *option)
{
    const char key[] = {(char)option->key, '\0'};

    put_raw(page, ".TP\n");
    if (option->key > ' ' && option->key < 0x7F) {
        put_raw(page, "\\fB\\-");
        put_raw(page, key);
        put_raw(page, "\\fR, ");
    }
    put_raw(page, "\\fB\\-\\-");
    put_literally(page, option->name, strlen(option->name));
    put_raw(page, "\\fR");
    if (option->arg != NULL) {
        put_raw(page, "=\\fI");
        put_literally(page, option->arg, strlen(option->arg));
        put_raw(page, "\\fR");
    }
    put_raw(page, "\n");
    put_line(page, option->doc != NULL ? option->doc : "");
}

static void put_end(struct page *page, bool program)
{
    put_section(page, "EXIT STATUS");
    put_line(page, "0 done; 1 failed while running; 2 the command line, the "
                   "configuration or the input is wrong, and one line says "
                   "what.");
    put_section(page, "SEE ALSO");
    if (!program)
        put_raw(page, ".BR gradecho (1),\n");
    for (const struct ge_command *c = ge_commands; program && c->name != NULL;
         c++) {
        put_raw(page, ".BR gradecho\\-");
        put_raw(page, c->name);
        put_raw(page, " (1),\n");
    }
    put_raw(page, ".BR gradecho\\-run (1),\n.BR gradecho.yaml (5)\n");
}

void ge_page_command(const struct argp *argp, const char *name, FILE *out)
{
    struct page page = {.out = out};
    const size_t length = strcspn(argp->doc, "\v");
    const char *after = argp->doc + length;
    char what[256];

    snprintf(what, sizeof what, "%.*s", (int)strcspn(argp->doc, ".\v"),
             argp->doc);
    what[0] = (char)tolower((unsigned char)what[0]);
    for (char *c = strchr(what, '`'); c != NULL; c = strchr(c, '`'))
        *c = '\'';
    put_title(&page, name, 1, what);
    put_section(&page, "SYNOPSIS");
    put_raw(&page, ".B ");
    put_literally(&page, name, strlen(name));
    put_raw(&page, "\n");
    if (argp->options != NULL)
        put_raw(&page, "[\\fIOPTION\\fR ...]\n");
    if (argp->args_doc != NULL && argp->args_doc[0] != '\0')
        put_line(&page, argp->args_doc);
    put_section(&page, "DESCRIPTION");
    put_words(&page, argp->doc, length);
    put_raw(&page, "\n");
    if (argp->options != NULL && argp->options->name != NULL)
        put_section(&page, "OPTIONS");
    for (const struct argp_option *o = argp->options;
         o != NULL && o->name != NULL; o++)
        if ((o->flags & OPTION_HIDDEN) == 0)
            put_option(&page, o);
    if (*after == '\v' && after[1] != '\0') {
        put_section(&page, "EXAMPLES");
        put_prose(&page, after + 1);
    }
    put_end(&page, false);
}

void ge_page_program(FILE *out)
{
    struct page page = {.out = out};

    put_title(&page, "gradecho", 1, "gradient noise of data-parallel training");
    put_section(&page, "SYNOPSIS");
    put_raw(&page, ".B gradecho\n\\fICOMMAND\\fR [\\fIOPTION\\fR ...]\n.PP\n"
                   ".B gradecho help\n[\\fICOMMAND\\fR]\n");
    put_section(&page, "DESCRIPTION");
    put_line(&page, "Measure the gradient noise of a training run while it "
                    "runs. One monitor beside each training process reads its "
                    "gradients from shared memory; together they write a log.");
    put_section(&page, "COMMANDS");
    for (const struct ge_command *c = ge_commands; c->name != NULL; c++) {
        put_raw(&page, ".TP\n.B ");
        put_raw(&page, c->name);
        put_raw(&page, "\n");
        put_line(&page, c->help);
    }
    put_section(&page, "EXAMPLES");
    put_prose(&page, "  gradecho-run -n 4 --log run.h5 -- mpirun -n 4 ./train\n"
                     "  gradecho inspect run.h5 --follow\n");
    put_end(&page, true);
}

static void put_key(struct page *page, const struct ge_config_key *key)
{
    char text[512];

    put_raw(page, ".TP\n\\fB");
    put_literally(page, key->name, strlen(key->name));
    put_raw(page, "\\fR: ");
    put_literally(page, key->initial, strlen(key->initial));
    put_raw(page, "\n");
    snprintf(text, sizeof text, key->range[0] != '\0' ? "%s (%s)" : "%s%s",
             key->help, key->range);
    put_line(page, text);
}

void ge_page_config(FILE *out)
{
    struct page page = {.out = out};
    struct ge_config_key key;

    put_title(&page, "gradecho.yaml", 5, "what the monitors can be told");
    put_section(&page, "DESCRIPTION");
    put_line(&page, "A YAML file, read by `gradecho monitor -c` and `gradecho "
                    "replay -c`. Every key can be left out; `--set KEY=VALUE` "
                    "on the command line goes first. A key with a dot stands, "
                    "indented, under the word before the dot. Each is told "
                    "with its default, and with what it can be.");
    put_section(&page, "KEYS");
    for (size_t i = 0; ge_config_key(i, &key); i++)
        put_key(&page, &key);
    put_section(&page, "EXAMPLES");
    put_raw(&page, ".RS 4\n.EX\nsample:\n  every: 10\nlayers:\n"
                   "  include: [\"*weight\"]\n.EE\n.RE\n.PP\n");
    put_line(&page, "`gradecho config > run.yaml` writes a file with every key "
                    "at its default, `gradecho config --check run.yaml` reads "
                    "one.");
    put_section(&page, "SEE ALSO");
    put_raw(&page, ".BR gradecho\\-config (1),\n.BR gradecho\\-monitor (1)\n");
}
