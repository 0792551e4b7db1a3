/*
 * fuse_ops_group: takes the set-group-id bit away when a stranger changes a file whose group may not execute it.
 * Invariant: the bit goes in the same record as what else changes.
 * Called by fuse_ops.
 *
 * The kernel takes it away on every file system (setattr_should_drop_sgid()), but its FUSE goes over the mode once more and
 * keeps it then. What is left is the SETATTR that comes before a write, with no field at all when nothing else has to go.
 */
#include "fuse_ops_reply.h"

#include <sys/stat.h>

enum { GROUPS_MAX = 1024 }; /* that are looked at; who is in more keeps the bit */

/* Who is not known, as a process of another namespace, is no stranger. */
static bool is_stranger(fuse_req_t req, gid_t group)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	gid_t groups[GROUPS_MAX];
	int n;

	if (ctx->uid == 0 || ctx->gid == group)
		return false;
	n = fuse_req_getgroups(req, GROUPS_MAX, groups);
	for (int i = 0; i < n && i < GROUPS_MAX; i++) {
		if (groups[i] == group)
			return false;
	}
	return n >= 0 && n <= GROUPS_MAX;
}

void fuse_ops_drop_group(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino, struct tree_change *change)
{
	bool only_times = change->fields && (change->fields | INODE_TIMES) == INODE_TIMES;
	struct inode inode;
	uint32_t mode;

	if (!ops->options.posix || only_times || tree_getattr(ops->tree, ino, &inode) < 0 || S_ISDIR(inode.mode))
		return;
	mode = change->fields & INODE_MODE ? change->attr.mode : inode.mode;
	if ((mode & (S_ISGID | S_IXGRP)) != S_ISGID || !is_stranger(req, inode.gid))
		return;
	change->attr.mode = mode & ~(uint32_t)S_ISGID;
	change->fields |= INODE_MODE;
}
