/*
 * programs: owns nothing.
 * Invariant: what is found is a regular file that may be run.
 * Called by uml, mountpoint and the program.
 */
#include "umlfs/programs.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

/* False with errno. */
static bool is_program(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || access(path, X_OK) < 0)
		return false;
	errno = EACCES; /* as execve(2) has it for a directory */
	return S_ISREG(st.st_mode);
}

char *programs_find(const char *name)
{
	const char *path = getenv("PATH");
	cleanup_free char *copy = strdup(path ? path : "/usr/local/bin:/usr/bin:/bin");
	char *rest = copy;
	char *dir;

	if (strchr(name, '/'))
		return is_program(name) ? realpath(name, NULL) : NULL;
	while (rest && (dir = strsep(&rest, ":"))) {
		char file[PATH_MAX];

		if (snprintf(file, sizeof(file), "%s/%s", *dir ? dir : ".", name) < PATH_MAX && is_program(file))
			return realpath(file, NULL);
	}
	errno = ENOENT;
	return NULL;
}
