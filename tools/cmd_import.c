/*
 * cmd_import: hands over to the program umlfs-import, which stands beside this one or where it was installed.
 * Invariant: the process stays the same, so signals and the exit status need no passing on.
 */
#include "cmd.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

static const char program[] = "umlfs-import";

/* The path of umlfs-import in this program's own directory. */
static int beside(char path[PATH_MAX])
{
	ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - sizeof(program) - 1);
	char *slash;

	if (len < 0)
		return -errno;
	path[len] = '\0';
	slash = strrchr(path, '/');
	if (!slash)
		return -ENOENT;
	strcpy(slash + 1, program);
	return 0;
}

static int run_import(const struct command *self, int argc, char **argv)
{
	char **whole = argv - 1; /* with the program's own name: see main() */
	char path[PATH_MAX];

	if (beside(path) == 0)
		execv(path, whole);
	execv(UMLFS_LIBEXECDIR "/umlfs-import", whole);
	return cmd_exit(log_errno(&cmd_log, -errno, "%s: install umlfs again", UMLFS_LIBEXECDIR "/umlfs-import"));
}

const struct command cmd_import = {
	.name = "import",
	.usage = "[--force] ARCHIVE|DIR|- BASE",
	.help = "make a base of an archive (or a directory), keeping every owner, mode and device",
	.run = run_import,
};
