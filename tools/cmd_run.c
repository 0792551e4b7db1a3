/* cmd_run: hands over to the program umlfs-run. */
#include "cmd.h"

enum { STATUS_FAILED = 125 }; /* as umlfs-run has it: 1 could be the command's own */

static int run_run(const struct command *self, int argc, char **argv)
{
	cmd_become("umlfs-run", argv - 1); /* with the program's own name: see main() */
	return STATUS_FAILED;
}

const struct command cmd_run = {
	.name = "run",
	.usage = "[OPTION...] BASE|SESSION [-- COMMAND ARG...]",
	.help = "boot a guest, run a command in it, and leave nothing behind",
	.run = run_run,
};
