/* cmd_import: hands over to the program umlfs-import. */
#include "cmd.h"

static int run_import(const struct command *self, int argc, char **argv)
{
	return cmd_become("umlfs-import", argv - 1); /* with the program's own name: see main() */
}

const struct command cmd_import = {
	.name = "import",
	.usage = "[--force] [--platform P] [--image NAME] ARCHIVE|DIR|IMAGE|-... BASE",
	.help = "make a base of an archive, a directory or an image",
	.run = run_import,
};
