/*
 * import_dir: owns the list of directories still to be read.
 * Invariant: depth costs neither stack nor descriptors, and no link of the source is followed.
 * Called by import.
 */
#include "import_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"
#include "map.h"
#include "xattr_file.h"

enum {
	COPY_CHUNK = 256 << 10,
};

/* A directory whose entries are still to be read. */
struct pending {
	struct pending *next;
	size_t len;
	char path[];
};

/* A host inode with several names, and the first of them. */
struct linked {
	struct map_node node; /* hash: host inode number */
	uint64_t host_ino;
	dev_t host_dev; /* single files of other file systems can be mounted on some of this one's */
	char path[];
};

struct walk {
	const struct import_report *report;
	struct import_meter *meter;
	struct import_target *target;
	int root;
	dev_t dev;
	struct pending *todo;
	struct map links;
	char chunk[COPY_CHUNK];
	struct xattr_file xattrs;
	char symlink[FORMAT_TARGET_MAX + 1];
};

/* Puts a failure of the source into words. */
static int unreadable(const struct walk *w, const char *path, int r)
{
	if (w->meter->stopped)
		return -ECANCELED;
	if (r == -EACCES)
		return import_report(w->report, path, r,
		                     "you may not read this: import as its owner or as root, or import "
		                     "an archive of it");
	if (r == -E2BIG)
		return import_report(w->report, path, r,
		                     "has more than 128 KiB of extended attributes: no base can hold it");
	return import_report_errno(w->report, path, r);
}

static int push(struct walk *w, const char *path, size_t len)
{
	struct pending *p = malloc(sizeof(*p) + len + 1);

	if (!p)
		return -ENOMEM;
	p->len = len;
	memcpy(p->path, path, len + 1);
	p->next = w->todo;
	w->todo = p;
	return 0;
}

static void describe(struct import_member *m, const struct stat *st)
{
	m->mode = st->st_mode;
	m->uid = st->st_uid == geteuid() ? 0 : st->st_uid;
	m->gid = st->st_gid == getegid() ? 0 : st->st_gid;
	m->rdev = (uint64_t)major(st->st_rdev) << 32 | minor(st->st_rdev);
	m->mtime = st->st_mtim;
	m->ctime = st->st_ctim;
}

/* Copies the data from offset to end. */
static int copy_data(struct walk *w, const struct import_member *m, int fd, uint64_t offset, uint64_t end)
{
	while (offset < end) {
		size_t want = end - offset < COPY_CHUNK ? (size_t)(end - offset) : COPY_CHUNK;
		ssize_t n = pread(fd, w->chunk, want, (off_t)offset);
		int r;

		if (n < 0 && errno != EINTR)
			return unreadable(w, m->path, -errno);
		if (n == 0)
			return 0;
		r = n < 0 ? 0 : import_target_write(w->target, m, w->chunk, (size_t)n, offset);
		if (r == 0)
			r = n < 0 ? import_meter_tell(w->meter) : import_meter_work(w->meter, 2 * (uint64_t)n);
		if (r < 0)
			return r;
		if (n > 0) {
			offset += (uint64_t)n;
			w->meter->now.bytes += (uint64_t)n;
		}
	}
	return 0;
}

/* Copies what is no hole. */
static int copy_stretches(struct walk *w, const struct import_member *m, int fd, uint64_t size)
{
	uint64_t at = 0, data, end;
	int r = 0;

	while (r == 0 && io_next_data(fd, at, size, &data, &end)) {
		r = copy_data(w, m, fd, data, end);
		at = end;
	}
	return r;
}

static int copy_content(struct walk *w, const struct import_member *m, int dir, const char *name,
                        const struct stat *before)
{
	cleanup_fd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0)
		return unreadable(w, m->path, -errno);
	r = copy_stretches(w, m, fd, (uint64_t)before->st_size);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return unreadable(w, m->path, -errno);
	if (st.st_ino != before->st_ino || st.st_dev != before->st_dev || st.st_size != before->st_size ||
	    st.st_mtim.tv_sec != before->st_mtim.tv_sec || st.st_mtim.tv_nsec != before->st_mtim.tv_nsec)
		return import_report(w->report, m->path, -EBUSY,
		                     "changed while it was read: import when nothing writes there");
	return import_target_end(w->target, m, (uint64_t)before->st_size);
}

/* 1 when the file has a name already, and now this one too; 0 when this is its first. */
static int link_again(struct walk *w, const struct import_member *m, const struct stat *st)
{
	struct map_node *found = map_first(&w->links, map_hash_u64(st->st_ino));
	struct linked *l;
	int r;

	for (; found; found = map_next(found)) {
		l = (struct linked *)found;
		if (l->host_ino == st->st_ino && l->host_dev == st->st_dev) {
			r = import_target_link(w->target, m, l->path, strlen(l->path));
			return r < 0 ? r : 1;
		}
	}
	r = map_reserve(&w->links, 1);
	l = r == 0 ? malloc(sizeof(*l) + m->len + 1) : NULL;
	if (!l)
		return unreadable(w, m->path, -ENOMEM);
	l->host_ino = st->st_ino;
	l->host_dev = st->st_dev;
	memcpy(l->path, m->path, m->len + 1);
	map_add(&w->links, &l->node, map_hash_u64(st->st_ino));
	return 0;
}

/* Adds one file by its name in dir; path in m is the whole one. */
static int add(struct walk *w, struct import_member *m, int dir, const char *name, const struct stat *st)
{
	cleanup_free unsigned char *set = NULL;
	size_t set_len = 0;
	ssize_t len;
	int r = 0;

	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1) {
		r = link_again(w, m, st);
		if (r != 0)
			return r < 0 ? r : 0;
	}
	describe(m, st);
	r = xattr_file_read(&w->xattrs, dir, name, false, &set, &set_len);
	if (r < 0)
		return unreadable(w, m->path, r);
	m->xattrs = (struct xattr_set){set, set_len};
	if (S_ISLNK(st->st_mode)) {
		len = readlinkat(dir, name, w->symlink, sizeof(w->symlink));
		if (len < 0)
			return unreadable(w, m->path, -errno);
		m->target = w->symlink;
		m->target_len = (size_t)len;
	}
	r = import_target_add(w->target, m);
	if (r == 0 && S_ISREG(st->st_mode))
		r = copy_content(w, m, dir, name, st);
	if (r == 0 && S_ISDIR(st->st_mode) && st->st_dev == w->dev && push(w, m->path, m->len) < 0)
		r = unreadable(w, m->path, -ENOMEM);
	return r < 0 ? r : import_meter_entry(w->meter);
}

static int add_entry(struct walk *w, const struct pending *in, int dir, const char *name)
{
	struct import_member m = {.len = in->len + (in->len > 0) + strlen(name)};
	cleanup_free char *path = malloc(m.len + 1);
	struct stat st;

	if (!path)
		return unreadable(w, in->path, -ENOMEM);
	snprintf(path, m.len + 1, "%s%s%s", in->path, in->len > 0 ? "/" : "", name);
	m.name = m.path = path;
	if (in->len == 0 && strcmp(name, FORMAT_OWN_DIR) == 0)
		return import_report(w->report, name, -EPERM,
		                     "this is the name of umlfs's own folder: what has one is a base or "
		                     "a piece of one; import what that base was made from");
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return unreadable(w, path, -errno);
	return add(w, &m, dir, name, &st);
}

static int read_dir(struct walk *w, const struct pending *p)
{
	int fd = io_open_beneath(w->root, p->len > 0 ? p->path : ".", O_RDONLY | O_DIRECTORY, 0);
	cleanup_dir DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		close_fd(fd);
		return unreadable(w, p->path, fd < 0 ? fd : -ENOMEM);
	}
	while ((errno = 0, entry = readdir(dir))) {
		int r;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = add_entry(w, p, fd, entry->d_name);
		if (r < 0)
			return r;
	}
	return errno ? unreadable(w, p->path, -errno) : 0;
}

static int walk(struct walk *w)
{
	struct import_member root = {.name = ".", .path = (char[]){""}};
	struct stat st;
	int r;

	if (fstat(w->root, &st) < 0)
		return unreadable(w, ".", -errno);
	w->dev = st.st_dev;
	r = add(w, &root, w->root, ".", &st);
	while (r == 0 && w->todo) {
		struct pending *p = w->todo;

		w->todo = p->next;
		r = read_dir(w, p);
		free(p);
	}
	return r;
}

static void free_link(struct map_node *node, void *arg)
{
	free(node);
}

int import_dir(int fd, const struct import_report *report, struct import_meter *meter, struct import_target *target)
{
	struct walk *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->report = report;
	w->meter = meter;
	w->target = target;
	w->root = fd;
	r = walk(w);
	while (w->todo) {
		struct pending *p = w->todo;

		w->todo = p->next;
		free(p);
	}
	map_each(&w->links, free_link, NULL);
	map_fini(&w->links);
	free(w);
	return r;
}
