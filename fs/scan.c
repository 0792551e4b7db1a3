/*
 * scan: walks a directory tree and builds its index.
 * Invariant: the result depends on the tree alone: not on readdir order, not on access times.
 * Called by store when a session is mounted on a base without an index of its own.
 */
#include "scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "cleanup.h"
#include "format.h"
#include "index_build.h"
#include "io.h"
#include "map.h"
#include "xattr_file.h"

/* A directory whose entries are still to be read, on a list so that depth costs no stack and no descriptors. */
struct pending {
	struct pending *next;
	struct build_node *node;
	char path[];
};

/* A host inode with several links, and the node that it became. */
struct linked {
	struct map_node node; /* hash: host inode number */
	uint64_t host_ino;
	dev_t host_dev; /* single files of other file systems can be mounted on some of this one's */
	struct build_node *built;
};

struct scan {
	const struct log *log;
	const char *label;
	struct build *build;
	int root;
	dev_t dev;
	uid_t uid;
	gid_t gid;
	uid_t caller;
	struct pending *todo;
	struct map links;
	uint64_t n_unreadable;
	struct xattr_file xattrs;
};

static int push(struct scan *s, struct build_node *node, const char *dir, const char *name)
{
	size_t len = strlen(dir) + strlen(name) + 2;
	struct pending *p = malloc(sizeof(*p) + len);

	if (!p)
		return -ENOMEM;
	p->node = node;
	snprintf(p->path, len, "%s%s%s", dir, *dir ? "/" : "", name);
	p->next = s->todo;
	s->todo = p;
	return 0;
}

static void fill(const struct scan *s, struct build_node *node, const struct stat *st)
{
	node->mode = st->st_mode;
	node->uid = st->st_uid == s->uid ? 0 : st->st_uid;
	node->gid = st->st_gid == s->gid ? 0 : st->st_gid;
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		node->rdev = (uint64_t)major(st->st_rdev) << 32 | minor(st->st_rdev);
	node->size = (uint64_t)st->st_size;
	/* st_blocks changes when the host writes back or trims, with no other change: not what a base is known by. */
	if (S_ISREG(st->st_mode) || S_ISDIR(st->st_mode))
		node->blocks = ((uint64_t)st->st_size + 4095) / 4096 * 8;
	node->mtime = st->st_mtim;
	/* Not st_ctim: copying, moving or mending the base changes it, and nobody can put it back. */
	node->ctime = st->st_mtim;
	node->stamp = (uint64_t)st->st_mtim.tv_sec * 1000000000u + (uint64_t)st->st_mtim.tv_nsec;
}

static int read_xattrs(struct scan *s, int dir, const char *name, struct build_node *node)
{
	cleanup_free unsigned char *set = NULL;
	size_t len = 0;
	int r = xattr_file_read(&s->xattrs, dir, name, true, &set, &len);

	/* What goes meanwhile has none. */
	return r < 0 && r != -ENOENT ? r : build_set_xattrs(node, set, len);
}

static int read_target(struct build_node *node, int dir, const char *name)
{
	char target[PATH_MAX];
	ssize_t len = readlinkat(dir, name, target, sizeof(target));

	if (len < 0)
		return -errno;
	return build_set_target(node, target, (size_t)len);
}

/* True when the caller, who is not root, may not read a file of this mode and owner. */
static bool unreadable(const struct scan *s, const struct stat *st)
{
	if (!S_ISREG(st->st_mode) || s->caller == 0)
		return false;
	if (st->st_uid == s->caller)
		return !(st->st_mode & S_IRUSR);
	return !(st->st_mode & (S_IRGRP | S_IROTH));
}

static int link_again(struct scan *s, struct build_node *parent, const char *name, const struct stat *st,
                      bool *linked_out)
{
	struct map_node *found = map_first(&s->links, map_hash_u64(st->st_ino));

	*linked_out = false;
	for (; found; found = map_next(found)) {
		struct linked *l = (struct linked *)found;

		if (l->host_ino == st->st_ino && l->host_dev == st->st_dev) {
			*linked_out = true;
			return build_link(s->build, parent, name, strlen(name), l->built);
		}
	}
	return 0;
}

static int remember_link(struct scan *s, struct build_node *node, const struct stat *st)
{
	struct linked *l;
	int r = map_reserve(&s->links, 1);

	if (r < 0)
		return r;
	l = malloc(sizeof(*l));
	if (!l)
		return -ENOMEM;
	l->host_ino = st->st_ino;
	l->host_dev = st->st_dev;
	l->built = node;
	map_add(&s->links, &l->node, map_hash_u64(st->st_ino));
	return 0;
}

static int add_entry(struct scan *s, const struct pending *dir, int fd, const char *name)
{
	struct build_node *node = NULL;
	bool linked = false;
	struct stat st;
	int r = 0;

	if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode) && st.st_nlink > 1)
		r = link_again(s, dir->node, name, &st, &linked);
	if (r < 0 || linked)
		return r;
	r = build_add(s->build, dir->node, name, strlen(name), st.st_mode, &node);
	if (r < 0)
		return r;
	fill(s, node, &st);
	if (S_ISLNK(st.st_mode))
		r = read_target(node, fd, name);
	if (r == 0)
		r = read_xattrs(s, fd, name, node);
	if (r == 0 && !S_ISDIR(st.st_mode) && st.st_nlink > 1)
		r = remember_link(s, node, &st);
	if (r == 0 && S_ISDIR(st.st_mode) && st.st_dev == s->dev)
		r = push(s, node, dir->path, name);
	if (r == 0 && unreadable(s, &st) && s->n_unreadable++ == 0)
		log_warning(s->log,
		            "%s/%s%s%s: you may not read this file, so guests cannot either; mount as its owner, "
		            "or import the archive instead",
		            s->label, dir->path, *dir->path ? "/" : "", name);
	return r;
}

static int read_dir(struct scan *s, const struct pending *pending)
{
	int fd = io_open_beneath(s->root, *pending->path ? pending->path : ".", O_RDONLY | O_DIRECTORY, 0);
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;

	if (fd < 0)
		return log_errno(s->log, fd, "%s/%s", s->label, pending->path);
	dir = fdopendir(fd);
	if (!dir) {
		close_fd(fd);
		return -ENOMEM;
	}
	while ((errno = 0, entry = readdir(dir))) {
		int r;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		r = add_entry(s, pending, fd, entry->d_name);
		if (r < 0)
			return log_error(s->log, r, "%s/%s%s%s: %s", s->label, pending->path, *pending->path ? "/" : "",
			                 entry->d_name,
			                 r == -E2BIG
			                         ? "has more than 128 KiB of extended attributes: no base can hold it"
			                         : strerror(-r));
	}
	return errno ? log_errno(s->log, -errno, "%s/%s", s->label, pending->path) : 0;
}

static int walk(struct scan *s)
{
	struct stat st;
	int r;

	if (fstat(s->root, &st) < 0)
		return log_errno(s->log, -errno, "%s", s->label);
	s->dev = st.st_dev;
	fill(s, build_root(s->build), &st);
	r = read_xattrs(s, s->root, ".", build_root(s->build));
	if (r < 0)
		return log_errno(s->log, r, "%s", s->label);
	r = push(s, build_root(s->build), "", "");
	while (r == 0 && s->todo) {
		struct pending *p = s->todo;

		s->todo = p->next;
		r = read_dir(s, p);
		free(p);
	}
	return r;
}

static void free_link(struct map_node *node, void *arg)
{
	free(node);
}

int scan_tree(int dirfd, const char *label, uid_t host_uid, gid_t host_gid, int fd, const struct log *log)
{
	struct scan *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	*s = (struct scan){
		.log = log, .label = label, .root = dirfd, .uid = host_uid, .gid = host_gid, .caller = geteuid()};
	r = build_new(INDEX_FLAG_SCANNED, &s->build);
	if (r == 0)
		r = walk(s);
	if (r == 0) {
		r = build_write(s->build, fd);
		if (r < 0)
			log_errno(log, r, "%s: cannot be indexed", label);
	}
	if (r == 0 && s->n_unreadable > 1)
		log_warning(log, "%s: %llu files in all that you may not read", label,
		            (unsigned long long)s->n_unreadable);
	while (s->todo) {
		struct pending *p = s->todo;

		s->todo = p->next;
		free(p);
	}
	map_each(&s->links, free_link, NULL);
	map_fini(&s->links);
	build_free(s->build);
	free(s);
	return r;
}
