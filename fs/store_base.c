/*
 * store_base: opens a base, scans it when it has no index, and keeps the session's copy of the index.
 * Invariant: session/base.index is the index of the base that the session was made on.
 * Called by store.
 */
#include "store_base.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"
#include "manifest.h"
#include "scan.h"

static const char copy_name[] = "base.index";
static const char new_copy_name[] = "base.index.new";

enum { MOST_DIFFERENCES = 5 }; /* paths named when a base is not the session's */

static bool is_session(const char *path)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && manifest_is_there(fd);
}

/* Cuts the path to that of a session that it lies in. A mount on the way is another file system: what is in there may be anything. */
static bool cut_to_session(char *path)
{
	struct stat inner, outer;
	char *slash;

	while ((slash = strrchr(path, '/')) && slash != path) {
		if (stat(path, &inner) < 0)
			return false;
		*slash = '\0';
		if (stat(path, &outer) < 0 || outer.st_dev != inner.st_dev)
			return false;
		if (is_session(path))
			return true;
	}
	return false;
}

int store_base_check_place(const struct store *store, const char *base, const struct log *log)
{
	cleanup_free char *real = base ? realpath(base, NULL) : NULL;
	cleanup_free char *around = base && !is_session(store->path) ? strdup(store->path) : NULL;

	if (around && cut_to_session(around))
		return log_error(log, -EINVAL, "%s: lies in the session %s: give a session elsewhere",
		                 store->session.label, around);
	if (!real)
		return 0; /* opening it says why */
	if (io_lies_in(store->path, real))
		return log_error(log, -EINVAL, "%s: lies in the base %s: give a session elsewhere",
		                 store->session.label, base);
	if (io_lies_in(real, store->path))
		return log_error(log, -EINVAL, "%s: lies in the session %s: give a base elsewhere", base,
		                 store->session.label);
	return 0;
}

static int open_tree(const struct store *store, const char *path, bool is_new, const struct log *log)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT && !is_new)
		return log_error(log, -ENOENT, "%s: no such base: if it was moved, say where to: `umlfs mount BASE %s`",
		                 path, store->session.label);
	if (fd < 0 && errno == ENOENT)
		return log_error(log, -ENOENT, "%s: no such base: make one with `umlfs import ARCHIVE %s`", path, path);
	if (fd < 0 && errno == ENOTDIR)
		return log_error(log, -ENOTDIR, "%s: is no directory: an archive becomes a base with `umlfs import`",
		                 path);
	if (fd < 0)
		return log_errno(log, -errno, "%s", path);
	if (io_dir_empty(fd, ".") == 0)
		return log_error(log, -ENOENT,
		                 "%s: is empty: give a base made with `umlfs import`, or an extracted root", path);
	/* As long as it is open, for who would replace it (import_place.c). Where that is happening, or no locks can be had, it goes without. */
	flock(fd, LOCK_SH | LOCK_NB);
	return take_fd(&fd);
}

static int label_of(const char *dir, const char *name, char label[PATH_MAX])
{
	return snprintf(label, PATH_MAX, "%s/%s", dir, name) < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/* Scans a plain directory into session/base.index.new. */
static int scan_base(const struct store *store, int treefd, const char *path, const struct log *log, struct index **out)
{
	int dirfd = store->session.dirfd;
	cleanup_fd int fd = openat(dirfd, new_copy_name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	char label[PATH_MAX];
	int r;

	label_of(store->session.label, new_copy_name, label);
	if (fd < 0)
		return log_errno(log, -errno, "%s", label);
	r = scan_tree(treefd, path, geteuid(), getegid(), fd, log);
	malloc_trim(0); /* the tree in memory was several times what is left */
	if (r < 0)
		return r;
	return index_open(dirfd, new_copy_name, label, log, out);
}

static int open_index(const struct store *store, int treefd, const char *path, const struct log *log,
                      struct index **out)
{
	char label[PATH_MAX];
	int r = label_of(path, FORMAT_OWN_DIR "/index", label);

	if (r == 0)
		r = index_open(treefd, FORMAT_OWN_DIR "/index", label, log, out);
	if (r != -ENOENT)
		return r;
	if (faccessat(treefd, FORMAT_OWN_DIR, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return log_error(log, -EUCLEAN, "%s: missing: import the base again", label);
	return scan_base(store, treefd, path, log, out);
}

/* An imported base's index beside the session: the same file if it can be, else a copy. */
static int copy_index(const struct store *store, int treefd)
{
	int dirfd = store->session.dirfd;
	cleanup_fd int from = -1, to = -1;
	struct stat st;

	unlinkat(dirfd, new_copy_name, 0);
	if (linkat(treefd, FORMAT_OWN_DIR "/index", dirfd, new_copy_name, 0) == 0)
		return 0;
	from = io_open_regular(treefd, FORMAT_OWN_DIR "/index", O_RDONLY);
	if (from < 0)
		return from;
	to = openat(dirfd, new_copy_name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (to < 0 || fstat(from, &st) < 0)
		return -errno;
	return io_clone(from, to, (uint64_t)st.st_size);
}

static int keep_copy(const struct store *store, const struct index *index, int treefd, const struct log *log)
{
	int dirfd = store->session.dirfd;
	int r = index_scanned(index) ? 0 : copy_index(store, treefd);

	if (r == 0 && renameat(dirfd, new_copy_name, dirfd, copy_name) < 0)
		r = -errno;
	return r < 0 ? log_errno(log, r, "%s/%s: cannot be written", store->session.label, copy_name) : 0;
}

/* The base is not the one that the session was made on: says in what it differs. */
static int refuse(const struct store *store, const struct index *now, const char *path, const struct log *log)
{
	struct index *before = NULL;
	char label[PATH_MAX];
	int r;

	log_error(log, 0,
	          "%s: is not the base that %s was made on, or changed since; restore it, or start a new session%s",
	          path, store->session.label, "; it differs in:");
	label_of(store->session.label, copy_name, label);
	r = index_open(store->session.dirfd, copy_name, label, log, &before);
	if (r == 0)
		index_compare(before, now, MOST_DIFFERENCES, log);
	index_free(before);
	return -ESTALE;
}

static bool copy_is_whole(const struct store *store)
{
	struct index *copy = NULL;
	struct checksum_id want = store->session.manifest.base;
	struct checksum_id id = {0};
	int r = index_open(store->session.dirfd, copy_name, copy_name, NULL, &copy);

	if (r == 0)
		id = index_id(copy);
	index_free(copy);
	return r == 0 && id.low == want.low && id.high == want.high;
}

static int match(const struct store *store, const struct index *index, int treefd, const char *path, bool is_new,
                 const struct log *log)
{
	struct checksum_id id = index_id(index);
	bool same = id.low == store->session.manifest.base.low && id.high == store->session.manifest.base.high;

	if (!is_new && !same)
		return refuse(store, index, path, log);
	if (is_new || (!index_is_file(index, store->session.dirfd, copy_name) && !copy_is_whole(store)))
		return keep_copy(store, index, treefd, log);
	unlinkat(store->session.dirfd, new_copy_name, 0);
	return 0;
}

/* The same base may have moved. */
static int remember_path(struct store *store, const char *real, bool is_new)
{
	char *copy;

	if (is_new || !real || strcmp(real, store->session.manifest.base_path) == 0)
		return 0;
	copy = strdup(real);
	if (!copy)
		return -ENOMEM;
	free(store->session.manifest.base_path);
	store->session.manifest.base_path = copy;
	store->base_moved = true;
	return 0;
}

int store_base_open(struct store *store, const char *path, bool is_new, const struct log *log)
{
	cleanup_fd int treefd = open_tree(store, path, is_new, log);
	cleanup_free char *real = realpath(path, NULL);
	struct index *index = NULL;
	int r;

	if (treefd < 0)
		return treefd;
	r = open_index(store, treefd, path, log, &index);
	if (r == 0)
		r = match(store, index, treefd, path, is_new, log);
	if (r == 0)
		r = remember_path(store, real, is_new);
	if (r == 0)
		r = base_new(index, treefd, real ? real : path, &store->session.base);
	if (r < 0) {
		unlinkat(store->session.dirfd, new_copy_name, 0);
		index_free(index);
		return r;
	}
	take_fd(&treefd);
	return 0;
}

int store_base_from_copy(struct store *store, const struct log *log)
{
	struct session *s = &store->session;
	struct index *index;
	char label[PATH_MAX];
	int r = label_of(s->label, copy_name, label);

	if (r == 0)
		r = index_open(s->dirfd, copy_name, label, NULL, &index);
	if (r == -ENOENT || r == -EUCLEAN)
		return log_error(log, -EUCLEAN, "%s: %s: mount the session with its base once, which mends it", label,
		                 r == -ENOENT ? "missing" : "damaged");
	if (r == -EPROTONOSUPPORT)
		return log_error(log, r, "%s: made by a newer umlfs: update umlfs", label);
	if (r < 0)
		return log_errno(log, r, "%s", label);
	r = base_new(index, -1, s->manifest.base_path, &s->base);
	if (r < 0)
		index_free(index);
	return r;
}
