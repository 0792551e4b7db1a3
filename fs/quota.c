/*
 * quota: adds up what a session holds.
 * Invariant: where there is no limit, nothing is refused and the host's figures stay.
 * Called by tree before a change, and by session before a copy-up.
 */
#include "quota.h"

#include <errno.h>
#include <unistd.h>

enum { BLOCK = 4096, SECTOR = 512 };

static uint64_t used_bytes(const struct stack *s)
{
	uint64_t sectors = 0;

	for (unsigned int i = 0; i < s->n; i++)
		sectors += s->layers[i]->blocks;
	return sectors * SECTOR;
}

static uint64_t used_inodes(const struct stack *s)
{
	int64_t made = 0;

	for (unsigned int i = 0; i < s->n; i++)
		made += s->layers[i]->made;
	return made > 0 ? (uint64_t)made : 0;
}

static uint64_t left(uint64_t limit, uint64_t used)
{
	return limit > used ? limit - used : 0;
}

int quota_check_bytes(const struct quota *l, const struct stack *s, int fd, uint64_t offset, uint64_t len)
{
	uint64_t first = offset / BLOCK * BLOCK;
	uint64_t end = (offset + len + BLOCK - 1) / BLOCK * BLOCK;
	off_t hole;

	if (l->bytes == 0 || end - first <= left(l->bytes, used_bytes(s)))
		return 0;
	hole = fd < 0 ? -1 : lseek(fd, (off_t)offset, SEEK_HOLE);
	return hole >= 0 && (uint64_t)hole >= offset + len ? 0 : -ENOSPC;
}

int quota_check_inode(const struct quota *l, const struct stack *s)
{
	return l->inodes == 0 || used_inodes(s) < l->inodes ? 0 : -ENOSPC;
}

static fsblkcnt_t at_most(uint64_t n, fsblkcnt_t most)
{
	return n < most ? (fsblkcnt_t)n : most;
}

void quota_statfs(const struct quota *l, const struct stack *s, struct statvfs *st)
{
	if (l->bytes) {
		uint64_t unit = st->f_frsize;
		uint64_t free_blocks = left(l->bytes, used_bytes(s)) / unit;

		/* The host may have less than was promised. */
		st->f_bavail = at_most(free_blocks, st->f_bavail);
		st->f_bfree = st->f_bavail;
		st->f_blocks = l->bytes / unit;
	}
	if (l->inodes) {
		st->f_files = l->inodes;
		st->f_ffree = left(l->inodes, used_inodes(s));
		st->f_favail = st->f_ffree;
	}
}
