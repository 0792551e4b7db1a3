/*
 * cmd_become: replaces this program by one of its parts.
 * Invariant: the process stays the same, so signals and the exit status need no passing on.
 */
#include "cmd.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

/* The path of a program in this program's own directory. */
static int beside(const char *program, char path[PATH_MAX])
{
	ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 1);
	char *slash;

	if (len < 0)
		return -errno;
	path[len] = '\0';
	slash = strrchr(path, '/');
	if (!slash || slash + 1 + strlen(program) >= path + PATH_MAX)
		return -ENOENT;
	strcpy(slash + 1, program);
	return 0;
}

int cmd_become(const char *program, char **argv)
{
	char path[PATH_MAX];

	if (beside(program, path) == 0)
		execv(path, argv);
	snprintf(path, sizeof(path), UMLFS_LIBEXECDIR "/%s", program);
	execv(path, argv);
	return cmd_exit(log_error(&cmd_log, -errno, "%s: %s: install umlfs again", path, strerror(errno)));
}
