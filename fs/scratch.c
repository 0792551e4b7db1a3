/*
 * scratch: makes and removes private temporary directories.
 * Invariant: nobody but its user gets into one; one that is held or kept is not swept.
 * Called by the program's commands that need one, and by clean.
 */
#include "umlfs/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

#define KEPT "kept" /* a file in a directory that is not swept */

enum { SUFFIX_LEN = 6 };

static const char *chosen_parent(void)
{
	const char *chosen = getenv("TMPDIR");

	return chosen && *chosen ? chosen : "/tmp";
}

/* Takes the lock of a directory: the descriptor, or -errno; -EWOULDBLOCK when somebody has it. */
static int hold(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return take_fd(&fd);
}

static int no_parent(int r, const struct log *log)
{
	const char *chosen = getenv("TMPDIR");
	bool is_chosen = chosen && *chosen;

	if (is_chosen && (r == -ENOENT || r == -ENOTDIR))
		return log_error(log, r, "TMPDIR=%s: no such directory: make it, or set TMPDIR to another", chosen);
	return log_errno(log, r, "%s%s", is_chosen ? "TMPDIR=" : "", chosen_parent());
}

int scratch_make(const char *name, const struct log *log, char **path_out, int *hold_out)
{
	cleanup_free char *parent = realpath(chosen_parent(), NULL);
	cleanup_free char *path = NULL;
	int fd;

	if (!parent)
		return no_parent(-errno, log);
	do {
		free(path);
		path = NULL;
		if (asprintf(&path, "%s/%s-XXXXXX", parent, name) < 0)
			return -ENOMEM;
		if (!mkdtemp(path))
			return log_error(log, -errno,
			                 "%s: no temporary directory can be made: %s: set TMPDIR to another directory",
			                 parent, strerror(errno));
		fd = hold(path);
	} while (fd == -ENOENT || fd == -EWOULDBLOCK); /* swept before it could be held */
	if (fd < 0) {
		rmdir(path);
		return log_errno(log, fd, "%s", path);
	}
	*path_out = take_ptr(&path);
	*hold_out = fd;
	return 0;
}

int scratch_keep(const char *path, const struct log *log)
{
	cleanup_free char *file = NULL;
	cleanup_fd int fd = -1;

	if (asprintf(&file, "%s/" KEPT, path) < 0)
		return -ENOMEM;
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? log_errno(log, -errno, "%s", file) : 0;
}

/* True for an own directory that nobody holds or keeps. */
static bool is_left(const char *path)
{
	cleanup_fd int fd = hold(path);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && faccessat(fd, KEPT, F_OK, 0) < 0;
}

static int sweep_parent(const char *parent, const char *name, int (*visit)(void *arg, const char *path), void *arg)
{
	DIR *dir = opendir(parent);
	size_t len = strlen(name);
	struct dirent *entry;
	int r = 0;

	while (r == 0 && dir && (entry = readdir(dir))) {
		cleanup_free char *path = NULL;

		if (strncmp(entry->d_name, name, len) != 0 || entry->d_name[len] != '-' ||
		    strlen(entry->d_name) != len + 1 + SUFFIX_LEN)
			continue;
		if (asprintf(&path, "%s/%s", parent, entry->d_name) < 0)
			r = -ENOMEM;
		else if (is_left(path))
			r = visit(arg, path);
	}
	if (dir)
		closedir(dir);
	return r;
}

int scratch_sweep(const char *name, int (*visit)(void *arg, const char *path), void *arg)
{
	cleanup_free char *chosen = realpath(chosen_parent(), NULL);
	int r = chosen ? sweep_parent(chosen, name, visit, arg) : 0;

	return r != 0 || (chosen && strcmp(chosen, "/tmp") == 0) ? r : sweep_parent("/tmp", name, visit, arg);
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
