/*
 * fuse_ops_dir: the listings.
 * Invariant: an entry that did not fit was not taken, and is the first of the next listing.
 * Called by libfuse through fuse_ops's table.
 */
#include "fuse_ops_reply.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* A listing being filled. */
struct listing {
	fuse_req_t req;
	struct fuse_ops *ops;
	bool plus;
	size_t used, size;
	int result;
};

/* With attributes: the kernel then holds the inode, as after a lookup. */
static size_t add_plus(struct listing *l, const char *name, const struct stack_entry *from, size_t room)
{
	struct fuse_entry_param entry = {.attr_timeout = FUSE_OPS_FOREVER, .entry_timeout = FUSE_OPS_FOREVER};
	bool is_dot = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
	struct inode inode;
	size_t len;

	if (tree_getattr(l->ops->tree, from->ino, &inode) < 0) {
		l->result = -EUCLEAN;
		return 0;
	}
	fuse_ops_stat(&inode, &entry.attr);
	if (!is_dot) {
		entry.ino = inode.ino;
		entry.generation = pin_generation(&l->ops->tree->pins, inode.ino);
	}
	len = fuse_add_direntry_plus(l->req, l->ops->buffer + l->used, room, name, &entry, (off_t)from->cookie);
	if (len <= room && !is_dot)
		l->result = tree_hold(l->ops->tree, inode.ino);
	return len;
}

static size_t add_plain(struct listing *l, const char *name, const struct stack_entry *from, size_t room)
{
	struct stat st = {.st_ino = from->ino};
	struct inode inode;

	if (tree_getattr(l->ops->tree, from->ino, &inode) == 0)
		st.st_mode = inode.mode;
	return fuse_add_direntry(l->req, l->ops->buffer + l->used, room, name, &st, (off_t)from->cookie);
}

static int add_to_listing(void *arg, const struct stack_entry *from)
{
	struct listing *l = arg;
	size_t room = l->size - l->used;
	char name[NAME_MAX + 1];
	size_t len;

	memcpy(name, from->name, from->name_len);
	name[from->name_len] = '\0';
	len = l->plus ? add_plus(l, name, from, room) : add_plain(l, name, from, room);
	if (l->result < 0 || len > room)
		return 1;
	l->used += len;
	return 0;
}

static void list(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino, size_t size, off_t cookie, bool plus)
{
	struct listing l = {
		.req = req, .ops = ops, .plus = plus, .size = size < FUSE_OPS_READ_MAX ? size : FUSE_OPS_READ_MAX};
	int r = tree_readdir(ops->tree, ino, (uint64_t)cookie, add_to_listing, &l);

	if (l.result < 0 && l.used == 0)
		r = l.result;
	fuse_ops_reply_bytes(req, r < 0 ? r : (ssize_t)l.used, ops->buffer);
}

void fuse_ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	list(req, fuse_ops_begin(req, KIND_READDIR), ino, size, cookie, false);
}

void fuse_ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	list(req, fuse_ops_begin(req, KIND_READDIRPLUS), ino, size, cookie, true);
}
