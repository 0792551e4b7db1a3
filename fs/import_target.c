/*
 * import_target: owns the index being built and the descriptors of the base being made.
 * Invariant: host and index have the same directories and regular files, and the host has nothing else, so
 * that no name that an archive invents can lead out of the base.
 * Called by import, import_archive, import_dir, import_remove and base_commit.
 */
#include "import_target_own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"

enum {
	PRIVATE_DIR = 0700,
	PRIVATE_FILE = 0600,
	DIR_SIZE = 4096, /* told of every directory, with so many sectors */
	DIR_SECTORS = 8,
};

static int refuse(const struct import_target *t, const struct import_member *m, int r, const char *why)
{
	return import_report(t->report, m->name, r, why);
}

static int failed(const struct import_target *t, const struct import_member *m, int r)
{
	return import_report_errno(t->report, m->name, r);
}

void import_target_leave(struct import_target *t)
{
	t->at.fd = close_fd(t->at.fd);
	t->at.len = 0;
	t->at.path[0] = '\0';
	t->at.node = build_root(t->build);
}

int import_target_new(int root, const struct import_report *report, struct import_target **out)
{
	struct import_target *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct import_target){.report = report, .root = root, .at.fd = -1, .file.fd = -1};
	r = build_new(0, &t->build);
	if (r == 0)
		r = checksum_content_new(&t->sum);
	t->at.cap = 256;
	t->at.path = malloc(t->at.cap);
	if (r == 0 && !t->at.path)
		r = -ENOMEM;
	if (r < 0) {
		import_target_free(t);
		return r;
	}
	import_target_leave(t);
	build_root(t->build)->size = DIR_SIZE;
	build_root(t->build)->blocks = DIR_SECTORS;
	*out = t;
	return 0;
}

void import_target_free(struct import_target *t)
{
	if (!t)
		return;
	import_file_fini(&t->file);
	close_fd(t->at.fd);
	free(t->at.path);
	checksum_content_free(t->sum);
	build_free(t->build);
	free(t);
}

/* The present directory's descriptor, borrowed. */
static int here(struct import_target *t)
{
	if (t->at.len == 0)
		return t->root;
	if (t->at.fd < 0)
		t->at.fd = io_open_beneath(t->root, t->at.path, O_RDONLY | O_DIRECTORY, 0);
	return t->at.fd;
}

/* Goes down to a directory that is there. Takes fd, -1 when it was not opened. */
static int step(struct import_target *t, const char *name, size_t len, struct build_node *node, int fd)
{
	struct place *at = &t->at;

	if (at->cap < at->len + len + 2) {
		size_t cap = 2 * (at->len + len + 2);
		char *grown = realloc(at->path, cap);

		if (!grown) {
			close_fd(fd);
			return -ENOMEM;
		}
		at->path = grown;
		at->cap = cap;
	}
	if (at->len > 0)
		at->path[at->len++] = '/';
	memcpy(at->path + at->len, name, len);
	at->len += len;
	at->path[at->len] = '\0';
	close_fd(at->fd);
	at->fd = fd;
	at->node = node;
	return 0;
}

/* A directory below the present one, in the index and on the host. name has a NUL behind len. */
static int make_dir(struct import_target *t, const char *name, size_t len, struct build_node **out)
{
	int dir = here(t);
	int r;

	if (dir < 0)
		return dir;
	r = build_add(t->build, t->at.node, name, len, S_IFDIR | 0755, out);
	if (r < 0)
		return r;
	(*out)->size = DIR_SIZE;
	(*out)->blocks = DIR_SECTORS;
	/* The umask may have taken something from it. */
	if (mkdirat(dir, name, PRIVATE_DIR) < 0 || fchmodat(dir, name, PRIVATE_DIR, 0) < 0) {
		r = -errno;
		build_unlink(t->build, t->at.node, name, len);
	}
	return r;
}

/* Makes a directory that the source has not told of, and goes there. */
static int make_and_step(struct import_target *t, const char *name, size_t len)
{
	char copy[FORMAT_NAME_MAX + 1];
	struct build_node *node;
	int fd;
	int r;

	if (len > FORMAT_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(copy, name, len);
	copy[len] = '\0';
	r = make_dir(t, copy, len, &node);
	if (r < 0)
		return r;
	fd = openat(here(t), copy, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return step(t, name, len, node, fd);
}

/* How much of path the present directory is, with the slash behind it; goes to the root when it is no part of
 * it. */
static size_t covered(struct import_target *t, const char *path, size_t len)
{
	const struct place *at = &t->at;

	if (at->len == 0)
		return 0;
	if (at->len <= len && memcmp(path, at->path, at->len) == 0) {
		if (at->len == len)
			return len;
		if (path[at->len] == '/')
			return at->len + 1;
	}
	import_target_leave(t);
	return 0;
}

/* Goes to the directory that holds the member, which is made where it is missing. The member's own name comes
 * out. */
static int enter(struct import_target *t, const struct import_member *m, const char **name_out, size_t *len_out)
{
	const char *slash = memrchr(m->path, '/', m->len);
	size_t end = slash ? (size_t)(slash - m->path) : 0;
	size_t start = covered(t, m->path, end);

	while (start < end) {
		const char *name = m->path + start;
		const char *stop = memchr(name, '/', end - start);
		size_t len = stop ? (size_t)(stop - name) : end - start;
		struct build_node *node;
		int r = build_find(t->build, t->at.node, name, len, &node);

		if (r == 0 && S_ISLNK(node->mode))
			return refuse(t, m, -EPERM, "stands below a symlink: no base can hold this member");
		if (r == 0 && !S_ISDIR(node->mode))
			return refuse(t, m, -EPERM, "stands below what is no directory: no base can hold this member");
		r = r == 0 ? step(t, name, len, node, -1) : make_and_step(t, name, len);
		if (r < 0)
			return failed(t, m, r);
		start += len + 1;
	}
	*name_out = slash ? slash + 1 : m->path;
	*len_out = m->len - (size_t)(*name_out - m->path);
	return 0;
}

/* Frees the name in the present directory that old has. */
static int vacate(struct import_target *t, const struct import_member *m, const char *name, size_t len,
                  const struct build_node *old)
{
	bool on_host = S_ISREG(old->mode) || S_ISDIR(old->mode);
	int flags = S_ISDIR(old->mode) ? AT_REMOVEDIR : 0;
	uint64_t freed = S_ISREG(old->mode) && build_names_of(old) == 1 ? old->size : 0;
	int dir = here(t);
	int r;

	if (dir < 0)
		return failed(t, m, dir);
	r = build_unlink(t->build, t->at.node, name, len);
	if (r == -ENOTEMPTY)
		return refuse(t, m, -EPERM, "would replace a directory that has entries: no base can hold this member");
	if (r == 0 && on_host && unlinkat(dir, name, flags) < 0)
		r = -errno;
	if (r < 0)
		return failed(t, m, r);
	t->bytes -= freed;
	return 0;
}

static int apply(struct build_node *node, const struct import_member *m)
{
	node->mode = (node->mode & S_IFMT) | (S_ISLNK(node->mode) ? 0777 : m->mode & 07777);
	node->uid = m->uid;
	node->gid = m->gid;
	node->rdev = S_ISCHR(node->mode) || S_ISBLK(node->mode) ? m->rdev : 0;
	node->mtime = m->mtime;
	node->ctime = m->ctime;
	return build_set_xattrs(node, m->xattrs.bytes, m->xattrs.len);
}

/* Opens a regular file of the present directory for the member's bytes. */
static int open_file(struct import_target *t, const char *name, struct build_node *node, int flags)
{
	int dir = here(t);
	int fd;

	if (dir < 0)
		return dir;
	fd = openat(dir, name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | flags, PRIVATE_FILE);
	if (fd < 0)
		return -errno;
	import_file_init(&t->file, fd, node, t->sum);
	return 0;
}

/* A node of the member's type under a name that is free. */
static int make(struct import_target *t, const struct import_member *m, const char *name, size_t len)
{
	struct build_node *node;
	int r;

	if (S_ISDIR(m->mode))
		r = make_dir(t, name, len, &node);
	else
		r = build_add(t->build, t->at.node, name, len, m->mode & S_IFMT, &node);
	if (r == 0)
		r = apply(node, m);
	if (r == 0 && S_ISLNK(m->mode))
		r = build_set_target(node, m->target, m->target_len);
	if (r == 0 && S_ISREG(m->mode))
		r = open_file(t, name, node, O_CREAT | O_EXCL);
	return r < 0 ? failed(t, m, r) : 0;
}

int import_target_add(struct import_target *t, const struct import_member *m)
{
	struct build_node *old;
	const char *name;
	size_t len;
	int r;

	if (m->len == 0) {
		if (!S_ISDIR(m->mode))
			return refuse(t, m, -EPERM, "the root can only be a directory");
		r = apply(build_root(t->build), m);
		return r < 0 ? failed(t, m, r) : 0;
	}
	r = enter(t, m, &name, &len);
	if (r < 0)
		return r;
	if (build_find(t->build, t->at.node, name, len, &old) == 0) {
		if (S_ISDIR(old->mode) && S_ISDIR(m->mode)) {
			r = apply(old, m);
			return r < 0 ? failed(t, m, r) : 0;
		}
		r = vacate(t, m, name, len, old);
		if (r < 0)
			return r;
	}
	return make(t, m, name, len);
}

int import_target_find(const struct import_target *t, const char *path, size_t len, struct build_node **out)
{
	struct build_node *node = build_root(t->build);

	while (len > 0) {
		const char *slash = memchr(path, '/', len);
		size_t part = slash ? (size_t)(slash - path) : len;
		int r = build_find(t->build, node, path, part, &node);

		if (r < 0)
			return r;
		path += part + (slash != NULL);
		len -= part + (slash != NULL);
	}
	*out = node;
	return 0;
}

/* A host hard link from path `to` to name in the present directory. */
static int link_on_host(struct import_target *t, const char *to, const char *name)
{
	const char *slash = strrchr(to, '/');
	cleanup_free char *parent = NULL;
	cleanup_fd int from = -1;
	int dir = here(t);

	if (dir < 0)
		return dir;
	if (slash) {
		parent = strndup(to, (size_t)(slash - to));
		if (!parent)
			return -ENOMEM;
		from = io_open_beneath(t->root, parent, O_RDONLY | O_DIRECTORY, 0);
		if (from < 0)
			return from;
	}
	if (linkat(slash ? from : t->root, slash ? slash + 1 : to, dir, name, 0) < 0)
		return -errno;
	return 0;
}

int import_target_link(struct import_target *t, const struct import_member *m, const char *to, size_t to_len)
{
	struct build_node *node, *old;
	const char *name;
	size_t len;
	int r;

	if (m->len == 0)
		return refuse(t, m, -EPERM, "the root can only be a directory");
	if (import_target_find(t, to, to_len, &node) < 0)
		return refuse(t, m, -EUCLEAN, "a hard link to a file that the archive does not hold before it");
	if (S_ISDIR(node->mode))
		return refuse(t, m, -EPERM, "a hard link to a directory: no base can hold this member");
	r = enter(t, m, &name, &len);
	if (r < 0)
		return r;
	r = build_find(t->build, t->at.node, name, len, &old);
	/* A file that was packed twice comes as a link to itself. */
	if (r == 0 && old == node)
		return 0;
	if (r == 0)
		r = vacate(t, m, name, len, old);
	else
		r = 0;
	if (r < 0)
		return r;
	r = build_link(t->build, t->at.node, name, len, node);
	if (r == 0 && S_ISREG(node->mode))
		r = link_on_host(t, to, name);
	if (r == -EMLINK)
		return refuse(
			t, m, r,
			"more names of one file than the host's file system allows: make the base on another one");
	return r < 0 ? failed(t, m, r) : 0;
}

int import_target_rewrite(struct import_target *t, const struct import_member *m)
{
	struct build_node *node;
	const char *name;
	size_t len;
	int r = enter(t, m, &name, &len);

	if (r < 0)
		return r;
	r = build_find(t->build, t->at.node, name, len, &node);
	if (r == 0 && !S_ISREG(node->mode))
		return refuse(t, m, -EUCLEAN, "a hard link with content to what is no regular file");
	if (r == 0)
		r = open_file(t, name, node, O_TRUNC);
	if (r < 0)
		return failed(t, m, r);
	t->bytes -= node->size;
	node->size = 0;
	return 0;
}

int import_target_write(struct import_target *t, const struct import_member *m, const void *bytes, size_t len,
                        uint64_t offset)
{
	int r = import_file_write(&t->file, bytes, len, offset);

	if (r == -EUCLEAN)
		return refuse(t, m, r, "its pieces overlap: the archive is damaged");
	return r < 0 ? failed(t, m, r) : 0;
}

int import_target_end(struct import_target *t, const struct import_member *m, uint64_t size)
{
	int r = import_file_end(&t->file, size);

	import_file_fini(&t->file);
	if (r == -EUCLEAN)
		return refuse(t, m, r, "has more bytes than its size says: the archive is damaged");
	if (r < 0)
		return failed(t, m, r);
	t->bytes += size;
	return 0;
}

int import_target_clone(struct import_target *t, const struct import_member *m, int fd, uint64_t size,
                        uint64_t checksum)
{
	int r = import_file_clone(&t->file, fd, size, checksum);

	import_file_fini(&t->file);
	if (r < 0)
		return failed(t, m, r);
	t->bytes += size;
	return 0;
}

uint64_t import_target_written(const struct import_target *t)
{
	return t->file.end;
}

static int open_index(int root)
{
	cleanup_fd int own = -1;
	int fd;

	if (mkdirat(root, FORMAT_OWN_DIR, PRIVATE_DIR) < 0 || fchmodat(root, FORMAT_OWN_DIR, PRIVATE_DIR, 0) < 0)
		return -errno;
	own = openat(root, FORMAT_OWN_DIR, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (own < 0)
		return -errno;
	fd = openat(own, "index", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, PRIVATE_FILE);
	if (fd >= 0 && fchmod(fd, PRIVATE_FILE) == 0)
		return fd;
	close_fd(fd);
	return -errno;
}

int import_target_index(struct import_target *t, struct import_result *result)
{
	cleanup_fd int fd = open_index(t->root);
	int r = fd < 0 ? fd : build_write(t->build, fd);

	if (r == -EOVERFLOW)
		return import_report(t->report, NULL, r, "holds more than one index can name: import parts of it");
	if (r < 0)
		return import_report_errno(t->report, FORMAT_OWN_DIR "/index", r);
	*result = (struct import_result){.entries = build_n_names(t->build), .bytes = t->bytes};
	return 0;
}
