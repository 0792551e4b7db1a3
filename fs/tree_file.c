/*
 * tree_file: the bytes of regular files.
 * Invariant: a write is recorded as begun before a byte changes, so that size and time are right if the
 * process dies in it.
 * Called by the front end and by tests.
 */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"

enum {
	COPY_MAX = 256 << 10,  /* bytes of one tree_copy_range(): the loop must go on; callers ask again */
	SHARE_MAX = 64 << 20,  /* ... where the host shares blocks */
	SHARE_UNIT = 64 << 10, /* a multiple of which it can share */
	ZEROS_MAX = 16 << 20,  /* bytes of one hole in a file that is here in part */
};

int tree_regular(struct tree *t, uint64_t ino, struct inode *out)
{
	int r = stack_inode(&t->session->stack, ino, out);

	if (r < 0)
		return r;
	if (inode_is_dir(out))
		return -EISDIR;
	return S_ISREG(out->mode) ? 0 : -EINVAL;
}

/* -ENOSPC, before anything changes, when the session may not hold so many bytes more. */
static int check_room(struct tree *t, const struct inode *inode, uint64_t offset, uint64_t len)
{
	struct session *s = t->session;
	int fd = -1;

	if (s->quota.bytes && inode->content_layer == stack_top(&s->stack)->id)
		fd = session_content(s, inode);
	return quota_check_bytes(&s->quota, &s->stack, fd, offset, len);
}

static ssize_t write_some(int fd, const void *buf, size_t len, uint64_t offset)
{
	ssize_t n;

	do {
		n = pwrite(fd, buf, len, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t write_whole(int fd, const void *buf, size_t len, uint64_t offset)
{
	int r = io_write_all(fd, buf, len, offset);

	return r < 0 ? r : (ssize_t)len;
}

ssize_t tree_write(struct tree *t, uint64_t ino, const void *buf, size_t len, uint64_t offset)
{
	struct session_write w = {.from = offset, .to = offset + len, .at_once = true, .now = tree_now()};
	struct inode before, inode;
	uint64_t end;
	ssize_t n;
	int fd;
	int r = tree_regular(t, ino, &before);

	if (r < 0)
		return r;
	if (len == 0)
		return 0;
	if (offset > INT64_MAX - len)
		return -EFBIG;
	r = check_room(t, &before, offset, len);
	if (r < 0)
		return r;
	inode = before;
	w.keep = before.size;
	fd = session_begin_write(t->session, &inode, &w);
	if (fd < 0)
		return fd;
	n = w.brings_to ? write_whole(fd, buf, len, offset) : write_some(fd, buf, len, offset);
	end = offset + (n < 0 ? 0 : (uint64_t)n);
	r = n < 0 ? (int)n : session_wrote(t->session, &w, fd, ino, end > before.size ? end : before.size);
	if (r < 0)
		session_write_failed(t->session, &w, &before);
	return r < 0 ? r : n;
}

/* A file that never had a byte needs no content file to have none. */
static int truncate_empty(struct tree *t, struct inode *inode, struct timespec now)
{
	struct session *s = t->session;

	inode->mtime = now;
	inode->ctime = now;
	record_start(&s->record);
	record_inode(&s->record, inode, INODE_MTIME | INODE_CTIME);
	return session_apply(s);
}

/* Records the fields that are no time of the content, if any, and the size with them. */
static int record_others(struct tree *t, const struct inode *inode, unsigned int fields)
{
	if (fields == 0)
		return 0;
	record_start(&t->session->record);
	t->session->record.frees = true; /* the write that it belongs to was begun */
	record_inode(&t->session->record, inode, fields | INODE_SIZE | INODE_CTIME);
	return session_apply(t->session);
}

int tree_set_size(struct tree *t, uint64_t ino, const struct tree_change *change)
{
	struct session *s = t->session;
	unsigned int others = change->fields & (INODE_MODE | INODE_UID | INODE_GID | INODE_ATIME);
	uint64_t size = change->attr.size;
	struct session_write w = {.keep = size, .now = tree_now()};
	struct inode before, inode;
	bool is_cut;
	int fd;
	int r = tree_regular(t, ino, &before);

	if (r < 0)
		return r;
	if (size > INT64_MAX)
		return -EFBIG;
	if (size == 0 && before.content_layer == CONTENT_NONE && change->fields == INODE_SIZE)
		return truncate_empty(t, &before, w.now);
	inode = before;
	if (others)
		w.keep = before.size;
	fd = session_begin_write(s, &inode, &w);
	if (fd < 0)
		return fd;
	/* What was copied up in part is no longer than size: nothing may fail any more that would leave it so. */
	is_cut = !others && inode.content_layer != before.content_layer && size <= before.size;
	tree_assign(&inode, change);
	inode.size = size < before.size ? size : before.size; /* told before it is cut, see session_begin_write() */
	r = record_others(t, &inode, others);
	if (r == 0 && !is_cut && ftruncate(fd, (off_t)size) < 0) {
		r = -errno;
		record_others(t, &before, others);
	}
	if (r < 0) {
		session_write_failed(s, &w, &before);
		return r;
	}
	session_wrote(s, &w, fd, ino, size); /* brings nothing, so it cannot fail */
	/* Times that were asked for end the run of writes; where that fails, what ends it later tells them. */
	if (change->fields & (INODE_MTIME | INODE_CTIME)) {
		layer_wrote(stack_top(&s->stack), ino, size, change->fields & INODE_MTIME ? change->attr.mtime : w.now,
		            change->fields & INODE_CTIME ? change->attr.ctime : w.now);
		session_settle_inode(s, ino);
	}
	return 0;
}

/* Zeros as data: a hole in bytes that came from below would look as if they had never come. */
static int write_zeros(struct tree *t, const struct inode *inode, int fd, int mode, uint64_t offset, uint64_t len)
{
	cleanup_free char *zeros = NULL;
	uint64_t unit = t->session->copying.unit;
	ssize_t n;

	/* Whether the host would, it tells behind the end. */
	if (fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)((inode->size / unit + 1) * unit), 1) < 0)
		return -errno;
	if (mode & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) && len > inode->size - offset)
		len = inode->size - offset;
	if (len > ZEROS_MAX)
		return -EOPNOTSUPP;
	zeros = calloc(1, (size_t)len);
	if (!zeros)
		return -ENOMEM;
	do {
		n = tree_write(t, inode->ino, zeros, (size_t)len, offset);
		if (n < 0)
			return (int)n;
		offset += (uint64_t)n;
		len -= (uint64_t)n;
	} while (len > 0);
	return 0;
}

int tree_fallocate(struct tree *t, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	struct session_write w = {.now = tree_now()};
	struct inode before, inode;
	uint64_t size;
	int fd;
	int r = tree_regular(t, ino, &before);

	if (r < 0)
		return r == -EISDIR ? -EBADF : -ENODEV;
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (len == 0 || offset > INT64_MAX - len)
		return len == 0 ? -EINVAL : -EFBIG;
	if (!(mode & FALLOC_FL_PUNCH_HOLE))
		r = check_room(t, &before, offset, len);
	if (r < 0)
		return r;
	inode = before;
	w.keep = before.size;
	fd = session_begin_write(t->session, &inode, &w);
	if (fd < 0)
		return fd;
	if (offset < inode.below && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		r = write_zeros(t, &inode, fd, mode, offset, len);
	else if (fallocate(fd, mode, (off_t)offset, (off_t)len) < 0)
		r = -errno;
	if (r < 0) {
		session_write_failed(t->session, &w, &before);
		return r;
	}
	size = mode & FALLOC_FL_KEEP_SIZE || offset + len < before.size ? before.size : offset + len;
	session_wrote(t->session, &w, fd, ino, size); /* brings nothing, so it cannot fail */
	return 0;
}

/* Where data or a hole begins in one piece of a file: its end when there is none in it. */
static int64_t seek_piece(int fd, uint64_t offset, uint64_t end, int whence)
{
	off_t found = lseek(fd, (off_t)offset, whence);

	if (found < 0 && errno == ENXIO)
		return (int64_t)(whence == SEEK_DATA ? end : offset); /* a base file may end before its hole does */
	if (found < 0)
		return -errno;
	return (uint64_t)found < end ? found : (int64_t)end;
}

int64_t tree_lseek(struct tree *t, uint64_t ino, uint64_t offset, int whence)
{
	struct session_piece piece;
	struct inode inode;
	int r = tree_regular(t, ino, &inode);

	if (r < 0)
		return r;
	while (offset < inode.size) {
		uint64_t end;
		int64_t found;
		int fd;

		r = session_piece(t->session, &inode, offset, &piece);
		if (r < 0)
			return r;
		fd = session_content(t->session, &piece.inode);
		if (fd < 0)
			return fd == -ENODATA ? -ENXIO : fd;
		end = piece.len < inode.size - offset ? offset + piece.len : inode.size;
		found = seek_piece(fd, offset, end, whence);
		if (found < 0 || (uint64_t)found < end || (whence == SEEK_HOLE && end == inode.size))
			return found;
		offset = end;
	}
	return -ENXIO;
}

/* Copies what lies in one content file, up to len bytes. */
static ssize_t copy_piece(struct tree *t, const struct inode *source, uint64_t from, const struct inode *dst,
                          uint64_t to, size_t len)
{
	loff_t src_at = (loff_t)from, dst_at = (loff_t)to;
	int dst_fd = session_content(t->session, dst);
	struct session_piece piece;
	ssize_t n;
	int fd;
	int r = session_piece(t->session, source, from, &piece);

	if (r < 0)
		return r;
	fd = session_content(t->session, &piece.inode);
	if (fd < 0 || dst_fd < 0)
		return fd < 0 ? fd : dst_fd;
	n = copy_file_range(fd, &src_at, dst_fd, &dst_at, piece.len < len ? (size_t)piece.len : len, 0);
	return n < 0 ? -errno : n;
}

/* How many bytes were copied; an error only when none was. */
static ssize_t copy_pieces(struct tree *t, const struct inode *source, uint64_t from, const struct inode *dst,
                           uint64_t to, size_t len)
{
	size_t done = 0;
	ssize_t n = 1;

	while (n > 0 && done < len) {
		n = copy_piece(t, source, from + done, dst, to + done, len - done);
		if (n > 0)
			done += (size_t)n;
	}
	return done > 0 ? (ssize_t)done : n;
}

/* A copy onto bytes that are below takes those up first: in steps that nobody waits for. */
static size_t copy_step(const struct tree *t, const struct inode *to, uint64_t offset)
{
	bool here = to->content_layer == stack_top(&t->session->stack)->id;
	uint64_t below = here ? to->below : to->size > t->session->copying.whole ? to->size : 0;

	return offset < below ? COPY_MAX : SHARE_MAX;
}

/* By sharing blocks, more than could be copied: how many bytes, or 0. */
static size_t share(struct tree *t, const struct inode *source, uint64_t from, int dst, uint64_t to, size_t len)
{
	struct session_piece piece;
	int fd;

	if (len <= COPY_MAX || t->session->copying.no_reflink || source->below > 0 ||
	    session_piece(t->session, source, from, &piece) < 0)
		return 0;
	len -= len % SHARE_UNIT;
	fd = session_content(t->session, &piece.inode);
	return fd >= 0 && io_share_range(fd, from, dst, to, len) == 0 ? len : 0;
}

ssize_t tree_copy_range(struct tree *t, uint64_t src, uint64_t src_offset, uint64_t dst, uint64_t dst_offset,
                        size_t len)
{
	struct session_write w = {.now = tree_now()};
	struct inode source, before, inode;
	uint64_t end;
	ssize_t n;
	int fd;
	int r = tree_regular(t, src, &source);

	if (r == 0)
		r = tree_regular(t, dst, &before);
	if (r < 0)
		return r;
	if (source.content_layer == CONTENT_NONE || src_offset >= source.size || len == 0)
		return 0;
	if (len > source.size - src_offset)
		len = source.size - src_offset;
	if (src == dst && src_offset < dst_offset + len && dst_offset < src_offset + len)
		return -EINVAL;
	if (len > copy_step(t, &before, dst_offset))
		len = copy_step(t, &before, dst_offset);
	r = check_room(t, &before, dst_offset, len);
	if (r < 0)
		return r;
	inode = before;
	w.keep = before.size;
	w.from = dst_offset;
	w.to = dst_offset + len;
	fd = session_begin_write(t->session, &inode, &w);
	if (fd < 0)
		return fd;
	if (src == dst)
		source = inode;
	n = (ssize_t)share(t, &source, src_offset, fd, dst_offset, len);
	if (n == 0)
		n = copy_pieces(t, &source, src_offset, &inode, dst_offset, len < COPY_MAX ? len : COPY_MAX);
	if (n <= 0) {
		session_write_failed(t->session, &w, &before);
		return n;
	}
	end = dst_offset + (uint64_t)n;
	session_wrote(t->session, &w, fd, dst, end > before.size ? end : before.size); /* brings nothing */
	return n;
}

int tree_statfs(struct tree *t, struct statvfs *out)
{
	struct session *s = t->session;

	session_finish_removals(s); /* who has removed something wants to see that it is gone */
	if (fstatvfs(s->dirfd, out) < 0)
		return -errno;
	quota_statfs(&s->quota, &s->stack, out);
	return 0;
}
