/*
 * diff_compare: owns nothing.
 * Invariant: bytes count, not where they are kept or who wrote them when.
 * Called by diff.
 */
#include "diff_compare.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

enum { CHUNK = 256 << 10 };

/* The next byte from `at` on that is no hole; size when there is none. */
static int64_t next_data(struct state *s, const struct inode *inode, uint64_t at)
{
	int64_t found = tree_lseek(&s->tree, inode->ino, at, SEEK_DATA);

	return found == -ENXIO ? (int64_t)inode->size : found == -EINVAL ? (int64_t)at : found;
}

static ssize_t read_whole(struct state *s, const struct inode *inode, unsigned char *chunk, size_t len, uint64_t at)
{
	ssize_t n = tree_read(&s->tree, inode->ino, chunk, len, at);

	if (n >= 0) /* a file without bytes of its own is zeros as far as its size says */
		memset(chunk + n, 0, len - (size_t)n);
	return n;
}

/* 1 when all bytes are the same, 0 when not, -errno. Sizes are the same. */
static int same_bytes(struct state *from, const struct inode *a, struct state *to, const struct inode *b)
{
	cleanup_free unsigned char *chunk = malloc(2 * (size_t)CHUNK);
	uint64_t at = 0;

	if (!chunk)
		return -ENOMEM;
	while (at < a->size) {
		int64_t one = next_data(from, a, at);
		int64_t other = next_data(to, b, at);
		size_t len;
		ssize_t r;

		if (one < 0 || other < 0)
			return (int)(one < 0 ? one : other);
		at = (uint64_t)(one < other ? one : other);
		len = a->size - at < CHUNK ? (size_t)(a->size - at) : CHUNK;
		r = read_whole(from, a, chunk, len, at);
		if (r >= 0)
			r = read_whole(to, b, chunk + CHUNK, len, at);
		if (r < 0)
			return (int)r;
		if (memcmp(chunk, chunk + CHUNK, len) != 0)
			return 0;
		at += len;
	}
	return 1;
}

static int compare_content(struct state *from, const struct inode *a, struct state *to, const struct inode *b)
{
	int r;

	if (a->size != b->size)
		return DIFF_CONTENT | DIFF_SIZE;
	if (a->size == 0 || (a->ino == b->ino && a->content_layer == b->content_layer))
		return 0;
	r = same_bytes(from, a, to, b);
	return r < 0 ? r : r ? 0 : DIFF_CONTENT;
}

static int compare_target(struct state *from, const struct inode *a, struct state *to, const struct inode *b)
{
	const char *one, *other;
	size_t len, other_len;
	int r = stack_target(&from->session.stack, a->ino, &one, &len);

	if (r == 0)
		r = stack_target(&to->session.stack, b->ino, &other, &other_len);
	if (r < 0)
		return r;
	return len == other_len && memcmp(one, other, len) == 0 ? 0 : DIFF_TARGET;
}

static int compare_xattrs(struct state *from, const struct inode *a, struct state *to, const struct inode *b)
{
	struct xattr_set one, other;
	int r = stack_xattrs(&from->session.stack, a->ino, &one);

	if (r == 0)
		r = stack_xattrs(&to->session.stack, b->ino, &other);
	if (r < 0)
		return r;
	return one.len == other.len && (one.len == 0 || memcmp(one.bytes, other.bytes, one.len) == 0) ? 0 : DIFF_XATTRS;
}

int diff_compare(struct state *from, const struct inode *a, struct state *to, const struct inode *b, bool times)
{
	int what = 0;
	int r = 0;

	if ((a->mode & S_IFMT) != (b->mode & S_IFMT))
		what |= DIFF_TYPE;
	if ((a->mode & 07777) != (b->mode & 07777) && !(S_ISLNK(a->mode) && S_ISLNK(b->mode)))
		what |= DIFF_MODE;
	if (a->uid != b->uid)
		what |= DIFF_OWNER;
	if (a->gid != b->gid)
		what |= DIFF_GROUP;
	if (times && (a->mtime.tv_sec != b->mtime.tv_sec || a->mtime.tv_nsec != b->mtime.tv_nsec))
		what |= DIFF_MTIME;
	if (!(what & DIFF_TYPE)) {
		if (S_ISREG(a->mode))
			r = compare_content(from, a, to, b);
		else if (S_ISLNK(a->mode))
			r = compare_target(from, a, to, b);
		else if (S_ISCHR(a->mode) || S_ISBLK(a->mode))
			r = a->rdev != b->rdev ? DIFF_DEVICE : 0;
	}
	if (r >= 0) {
		what |= r;
		r = compare_xattrs(from, a, to, b);
	}
	return r < 0 ? r : what | r;
}
