/*
 * quota: how much a session may hold, as ENOSPC and statfs(2) tell it.
 *
 * Counted are the blocks of the content files in all layers of the stack (what snapshots hold is not free), and the inodes that
 * were made in them and still have a name. A base costs nothing, nor do records.
 */
#pragma once

#include <sys/statvfs.h>

#include "stack.h"

struct quota {
	uint64_t bytes, inodes; /* 0: as much as the host has */
};

/*
 * 0, or -ENOSPC when the file's bytes from offset on, so many, may need more than is left. fd is the content file, so that what
 * has its blocks already needs none; -1 when there is none yet.
 */
int quota_check_bytes(const struct quota *l, const struct stack *s, int fd, uint64_t offset, uint64_t len);

/* 0, or -ENOSPC when no more inode may be made. */
int quota_check_inode(const struct quota *l, const struct stack *s);

/* Puts the limits into what the host said of itself; see statvfs(3). */
void quota_statfs(const struct quota *l, const struct stack *s, struct statvfs *st);
