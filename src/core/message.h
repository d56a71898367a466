/*
 * message.h - one-line messages to the person at the terminal.
 *
 * error: the run ends or a call failed; warning: data lost or a number that
 * cannot be known; info: a few lines per run; debug: per sample. Lower case,
 * values with units, what to do at the end.
 *
 * The speaker (program name, level, footer) is the only mutable state of the
 * process that is not passed as an argument; the program's main thread sets it.
 * In libgradecho the trainer's terminal is not ours: ge_message_capture() keeps
 * the last error for gradecho_message() instead of printing.
 */
#ifndef GRADECHO_CORE_MESSAGE_H
#define GRADECHO_CORE_MESSAGE_H

#define GE_MESSAGE_MAX 1024 /* bytes, terminator included */

enum ge_level { GE_ERROR, GE_WARN, GE_INFO, GE_DEBUG };

#if defined(__GNUC__)
#define GE_PRINTF(at, first) __attribute__((format(printf, at, first)))
#else
#define GE_PRINTF(at, first)
#endif

/* Who speaks: messages up to `level` go to standard error as
 * "gradecho: error: ..." (rank < 0) or "gradecho[rank]: error: ...". */
void ge_message_init(enum ge_level level, int rank);

/* Until told otherwise, keep this thread's errors instead of printing them.
 * Returns what was set before, to be restored. The last error stays until the
 * next one. */
int ge_message_capture(int on);

/* The last captured error of this thread; "" if none. */
const char *ge_message_last(void);

/* A line at the foot of the terminal, without its end: messages go above it.
 * "": no more. What does not fit in GE_FOOTER_MAX is cut. */
enum { GE_FOOTER_MAX = 256 };
void ge_message_footer(const char *text);

void ge_error(const char *format, ...) GE_PRINTF(1, 2);
void ge_warn(const char *format, ...) GE_PRINTF(1, 2);
void ge_info(const char *format, ...) GE_PRINTF(1, 2);
void ge_debug(const char *format, ...) GE_PRINTF(1, 2);

#endif
