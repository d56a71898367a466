#include "message.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static enum ge_level speaker_level = GE_INFO;
static int speaker_rank = -1;
static char footer[GE_FOOTER_MAX];

#define ERASE_LINE "\r\033[K"

static _Thread_local int capturing;
static _Thread_local char captured[GE_MESSAGE_MAX];

void ge_message_init(enum ge_level level, int rank)
{
    speaker_level = level;
    speaker_rank = rank;
}

int ge_message_capture(int on)
{
    const int before = capturing;

    capturing = on;
    return before;
}

const char *ge_message_last(void)
{
    return captured;
}

void ge_message_footer(const char *text)
{
    if (footer[0] != '\0' || text[0] != '\0')
        fprintf(stderr, ERASE_LINE "%s", text);
    snprintf(footer, sizeof footer, "%s", text);
}

GE_PRINTF(2, 0)
static void say(enum ge_level level, const char *format, va_list arguments)
{
    static const char *const names[] = {"error: ", "warning: ", "", "debug: "};
    char line[GE_MESSAGE_MAX];

    vsnprintf(line, sizeof line, format, arguments);
    if (capturing) {
        if (level == GE_ERROR)
            memcpy(captured, line, sizeof line);
        return;
    }
    if (level > speaker_level)
        return;
    /* One call, so that lines of several ranks do not mix. */
    const char *erase = footer[0] != '\0' ? ERASE_LINE : "";

    if (speaker_rank >= 0)
        fprintf(stderr, "%sgradecho[%d]: %s%s\n%s", erase, speaker_rank,
                names[level], line, footer);
    else
        fprintf(stderr, "%sgradecho: %s%s\n%s", erase, names[level], line,
                footer);
}

#define GE_DEFINE_SPEAKER(name, level) \
    void name(const char *format, ...) \
    {                                  \
        va_list arguments;             \
                                       \
        va_start(arguments, format);   \
        say(level, format, arguments); \
        va_end(arguments);             \
    }

GE_DEFINE_SPEAKER(ge_error, GE_ERROR)
GE_DEFINE_SPEAKER(ge_warn, GE_WARN)
GE_DEFINE_SPEAKER(ge_info, GE_INFO)
GE_DEFINE_SPEAKER(ge_debug, GE_DEBUG)
