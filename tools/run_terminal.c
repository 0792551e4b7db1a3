/*
 * run_terminal: the user's terminal, which must be as before in the end.
 * Invariant: what run_terminal_raw() changed, run_terminal_restore() puts back; it may be called at any time.
 */
#include "run.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* One terminal, one program. */
static struct {
	bool raw;
	struct termios before;
} terminal;

void run_terminal_size(unsigned short *rows_out, unsigned short *cols_out)
{
	struct winsize size;

	if (ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_row || !size.ws_col)
		size = (struct winsize){.ws_row = 24, .ws_col = 80};
	*rows_out = size.ws_row;
	*cols_out = size.ws_col;
}

int run_terminal_raw(void)
{
	struct termios raw;

	if (terminal.raw || tcgetattr(STDIN_FILENO, &terminal.before) < 0)
		return -errno;
	raw = terminal.before;
	cfmakeraw(&raw);
	terminal.raw = true;
	return tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0 ? -errno : 0;
}

void run_terminal_restore(void)
{
	if (terminal.raw)
		tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal.before);
	terminal.raw = false;
}
