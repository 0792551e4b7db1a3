/* cmd_export: hands over to the program umlfs-export. */
#include "cmd.h"

static int run_export(const struct command *self, int argc, char **argv)
{
	return cmd_become("umlfs-export", argv - 1); /* with the program's own name: see main() */
}

const struct command cmd_export = {
	.name = "export",
	.usage = "[--diff[=FROM]] SESSION[@NAME] FILE|-",
	.help = "write a state of a session as a tar archive or an image layer",
	.run = run_export,
};

const struct command cmd_commit = {
	.name = "commit",
	.usage = "[--force] SESSION[@NAME] BASE",
	.help = "make a new base of a state of a session",
	.run = run_export,
};
