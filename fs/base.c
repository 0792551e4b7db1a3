/*
 * base: owns an index and the tree that it describes.
 * Invariant: a descriptor that it gives out is the file that was indexed, as far as size and mtime can tell.
 * Called by session.
 */
#include "base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "io.h"

int base_new(struct index *index, int treefd, const char *label, struct base **out)
{
	struct base *b = calloc(1, sizeof(*b));

	if (!b)
		return -ENOMEM;
	b->label = strdup(label);
	if (!b->label) {
		free(b);
		return -ENOMEM;
	}
	b->index = index;
	b->treefd = treefd;
	*out = b;
	return 0;
}

void base_free(struct base *b)
{
	if (!b)
		return;
	index_free(b->index);
	close_fd(b->treefd);
	free(b->label);
	free(b);
}

static bool is_unchanged(int fd, const struct index_content *content)
{
	struct stat st;
	uint64_t stamp;

	if (fstat(fd, &st) < 0)
		return false;
	stamp = (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size == content->size && stamp == content->stamp;
}

int base_check_content(const struct base *b, uint64_t ino, int fd, const struct log *log)
{
	cleanup_free char *path = NULL;
	struct index_content content;
	int r = index_content(b->index, ino, &content);

	if (r < 0 || is_unchanged(fd, &content))
		return r;
	r = index_path(b->index, ino, &path);
	if (r < 0)
		return r;
	return log_error(log, -EIO, "%s/%s: changed since the base was %s: restore it, or start a new session on %s",
	                 b->label, path, index_scanned(b->index) ? "mounted" : "imported",
	                 index_scanned(b->index) ? "the base as it is now" : "a base that is imported again");
}

int base_open_content(const struct base *b, uint64_t ino, const struct log *log)
{
	cleanup_free char *path = NULL;
	cleanup_fd int fd = -1;
	int r;

	if (b->treefd < 0)
		return log_error(log, -EIO, "%s: the base is not there any more, or another one: restore it", b->label);
	r = index_path(b->index, ino, &path);
	if (r < 0)
		return r;
	fd = io_open_beneath(b->treefd, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return log_errno(log, fd == -EACCES ? fd : -EIO, "%s/%s: cannot be opened any more (%s)", b->label,
		                 path, strerror(-fd));
	r = base_check_content(b, ino, fd, log);
	return r < 0 ? r : take_fd(&fd);
}
