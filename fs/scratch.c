/*
 * scratch: makes and removes private temporary directories.
 * Invariant: nobody but its user gets into one.
 * Called by umlfs-run.
 */
#include "umlfs/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "io.h"

int scratch_make(const char *name, const struct log *log, char **path_out)
{
	const char *chosen = getenv("TMPDIR");
	cleanup_free char *parent = realpath(chosen && *chosen ? chosen : "/tmp", NULL);
	cleanup_free char *path = NULL;

	if (!parent)
		return log_errno(log, -errno, "%s: is to hold a temporary directory",
		                 chosen && *chosen ? chosen : "/tmp");
	if (asprintf(&path, "%s/%s-XXXXXX", parent, name) < 0)
		return -ENOMEM;
	if (!mkdtemp(path))
		return log_errno(log, -errno, "%s: no temporary directory can be made", parent);
	*path_out = take_ptr(&path);
	return 0;
}

int scratch_remove(const char *path, const struct log *log)
{
	int r = io_remove_tree(AT_FDCWD, path);

	return r < 0 ? log_errno(log, r, "%s: cannot be removed", path) : 0;
}

int scratch_mkdir(const char *path, const struct log *log)
{
	return mkdir(path, 0700) < 0 ? log_errno(log, -errno, "%s", path) : 0;
}
