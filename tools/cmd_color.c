/*
 * cmd_color: owns the terminal's escape sequences for colours.
 * Invariant: what is no terminal gets none of them, unless it was asked for by name.
 * Called by all that prints for people.
 */
#include "cmd_color.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool cmd_color_wanted(FILE *out)
{
	const char *no = getenv("NO_COLOR");
	const char *terminal = getenv("TERM");

	return !(no && *no) && terminal && *terminal && strcmp(terminal, "dumb") != 0 && isatty(fileno(out));
}

const char *cmd_color_start(bool wanted, enum color color)
{
	/* ECMA-48, SGR. Bold, or some of them are hard to read on some backgrounds. */
	static const char *const starts[] = {
		[COLOR_RED] = "\033[1;31m",
		[COLOR_GREEN] = "\033[1;32m",
		[COLOR_YELLOW] = "\033[1;33m",
		[COLOR_CYAN] = "\033[1;36m",
	};

	return wanted ? starts[color] : "";
}

const char *cmd_color_end(bool wanted)
{
	return wanted ? "\033[0m" : "";
}

bool cmd_color_choose(const char *when, FILE *out, bool *wanted_out)
{
	if (strcmp(when, "always") != 0 && strcmp(when, "never") != 0 && strcmp(when, "auto") != 0)
		return false;
	*wanted_out = strcmp(when, "always") == 0 || (strcmp(when, "auto") == 0 && cmd_color_wanted(out));
	return true;
}
