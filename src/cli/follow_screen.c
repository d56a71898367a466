/*
 * The terminal of --follow: keys, size, and leaving it as it was.
 */
#include <errno.h>
#include <ncurses.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <term.h>
#include <time.h>

#include "follow_view.h"
#include "try.h"

enum { KEY_ESCAPE = 27, KEY_DELETE = 127, KEY_CTRL_U = 21, ESCAPE_MS = 25 };

static volatile sig_atomic_t asked_to_end;

static void on_signal(int number)
{
    (void)number;
    asked_to_end = 1;
}

static long long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void type_filter(struct ge_view *view, int key)
{
    const size_t length = strlen(view->filter);

    switch (key) {
    case '\n':
    case '\r':
    case KEY_ENTER:
        view->typing = false;
        break;
    case KEY_ESCAPE:
        view->filter[0] = '\0';
        view->typing = false;
        break;
    case KEY_CTRL_U:
        view->filter[0] = '\0';
        break;
    case KEY_BACKSPACE:
    case KEY_DELETE:
    case '\b':
        if (length > 0)
            view->filter[length - 1] = '\0';
        break;
    default:
        if (key >= ' ' && key < 256 && length + 1 < sizeof view->filter) {
            view->filter[length] = (char)key;
            view->filter[length + 1] = '\0';
        }
    }
}

/* False: the user wants to leave. */
static bool obey(struct ge_view *view, int key)
{
    switch (key) {
    case 'q':
        return false;
    case 's':
        view->sort = (enum ge_view_sort)((view->sort + 1) % GE_SORTS);
        break;
    case '/':
        view->typing = !view->opened;
        break;
    case KEY_UP:
    case 'k':
        ge_view_move(view, -1);
        break;
    case KEY_DOWN:
    case 'j':
        ge_view_move(view, 1);
        break;
    case KEY_PPAGE:
        ge_view_move(view, -(long)(LINES / 2));
        break;
    case KEY_NPAGE:
        ge_view_move(view, LINES / 2);
        break;
    case '\n':
    case '\r':
    case KEY_ENTER:
        ge_view_move(view, 0);
        view->opened = view->count > 0;
        break;
    case KEY_ESCAPE:
    case KEY_BACKSPACE:
    case KEY_DELETE:
        view->opened = false;
        break;
    default: /* KEY_RESIZE: drawn anew with the rest */
        break;
    }
    return true;
}

static gradecho_status serve(struct ge_view *view)
{
    gradecho_status status = GRADECHO_OK;
    long long due = now_ms();

    while (asked_to_end == 0) {
        const long long left = due - now_ms();

        if (left <= 0) {
            if (ge_follow_poll(&view->follow))
                GE_TRY(ge_view_arrange(view));
            due = now_ms() + GE_FOLLOW_PERIOD_MS;
            ge_view_draw(view); /* the lag grows by itself */
            continue;
        }
        timeout((int)left);
        const int key = getch();

        if (key == ERR)
            continue;
        if (view->typing)
            type_filter(view, key);
        else if (!obey(view, key))
            break;
        GE_TRY(ge_view_arrange(view));
        ge_view_draw(view);
    }
fail:
    return status;
}

static void prepare(struct ge_view *view)
{
    (void)cbreak();
    (void)noecho();
    (void)nonl();
    (void)keypad(stdscr, TRUE);
    (void)set_escdelay(ESCAPE_MS);
    (void)curs_set(0);
    view->colour =
        has_colors() && start_color() == OK && use_default_colors() == OK;
    if (!view->colour)
        return;
    (void)init_pair(1, COLOR_RED, -1); /* alarm, caution, live */
    (void)init_pair(2, COLOR_YELLOW, -1);
    (void)init_pair(3, COLOR_GREEN, -1);
}

gradecho_status ge_follow_screen(const struct ge_question *question,
                                 bool unicode)
{
    gradecho_status status = GRADECHO_OK;
    struct ge_view view = {.follow.question = question, .unicode = unicode};
    const struct sigaction action = {.sa_handler = on_signal};
    SCREEN *screen = NULL;

    /* Before ncurses, which leaves handlers alone that are there. */
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGHUP, &action, NULL);
    screen = newterm(NULL, stdout, stdin);
    if (screen == NULL || cursor_address == NULL) {
        if (screen != NULL)
            (void)endwin();
        return ge_follow_lines(question);
    }
    ge_message_init(GE_ERROR, -1); /* a warning would tear the screen */
    prepare(&view);
    status = serve(&view);
    (void)endwin();
    delscreen(screen);
    free(view.order);
    ge_follow_fini(&view.follow);
    return status;
}
