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

enum { COPY_MAX = 64 << 20 }; /* bytes of one tree_copy_range(): the loop must go on; callers ask again */

static int regular(struct tree *t, uint64_t ino, struct inode *out)
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

ssize_t tree_read(struct tree *t, uint64_t ino, void *buf, size_t len, uint64_t offset)
{
	struct inode inode;
	size_t done = 0;
	ssize_t n;
	int fd;
	int r = regular(t, ino, &inode);

	if (r < 0)
		return r;
	fd = session_content(t->session, &inode);
	if (fd == -ENODATA)
		return 0;
	if (fd < 0)
		return fd;
	/* Not to stop before the end of the file: the kernel takes a short answer for that. */
	do {
		n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			done += (size_t)n;
	} while (n != 0 && done < len && offset + done < inode.size);
	return (ssize_t)done;
}

ssize_t tree_write(struct tree *t, uint64_t ino, const void *buf, size_t len, uint64_t offset)
{
	struct timespec now = tree_now();
	struct inode before, inode;
	uint64_t end;
	ssize_t n;
	int fd;
	int r = regular(t, ino, &before);

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
	fd = session_begin_write(t->session, &inode, before.size, now);
	if (fd < 0)
		return fd;
	do {
		n = pwrite(fd, buf, len, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		r = -errno;
		session_write_failed(t->session, &before);
		return r;
	}
	end = offset + (uint64_t)n;
	session_wrote(t->session, fd, ino, end > before.size ? end : before.size, now);
	return n;
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
	struct timespec now = tree_now();
	struct inode before, inode;
	bool is_cut;
	int fd;
	int r = regular(t, ino, &before);

	if (r < 0)
		return r;
	if (size > INT64_MAX)
		return -EFBIG;
	if (size == 0 && before.content_layer == CONTENT_NONE && change->fields == INODE_SIZE)
		return truncate_empty(t, &before, now);
	inode = before;
	fd = session_begin_write(s, &inode, others ? before.size : size, now);
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
		session_write_failed(s, &before);
		return r;
	}
	session_wrote(s, fd, ino, size, now);
	/* Times that were asked for end the run of writes; where that fails, what ends it later tells them. */
	if (change->fields & (INODE_MTIME | INODE_CTIME)) {
		layer_wrote(stack_top(&s->stack), ino, size, change->fields & INODE_MTIME ? change->attr.mtime : now,
		            change->fields & INODE_CTIME ? change->attr.ctime : now);
		session_settle_inode(s, ino);
	}
	return 0;
}

int tree_fallocate(struct tree *t, uint64_t ino, int mode, uint64_t offset, uint64_t len)
{
	struct timespec now = tree_now();
	struct inode before, inode;
	uint64_t size;
	int fd;
	int r = regular(t, ino, &before);

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
	fd = session_begin_write(t->session, &inode, before.size, now);
	if (fd < 0)
		return fd;
	if (fallocate(fd, mode, (off_t)offset, (off_t)len) < 0) {
		r = -errno;
		session_write_failed(t->session, &before);
		return r;
	}
	size = mode & FALLOC_FL_KEEP_SIZE || offset + len < before.size ? before.size : offset + len;
	session_wrote(t->session, fd, ino, size, now);
	return 0;
}

int64_t tree_lseek(struct tree *t, uint64_t ino, uint64_t offset, int whence)
{
	struct inode inode;
	off_t found;
	int fd;
	int r = regular(t, ino, &inode);

	if (r < 0)
		return r;
	if (offset >= inode.size)
		return -ENXIO;
	fd = session_content(t->session, &inode);
	if (fd < 0)
		return fd == -ENODATA ? -ENXIO : fd;
	found = lseek(fd, (off_t)offset, whence);
	return found < 0 ? -errno : found;
}

ssize_t tree_copy_range(struct tree *t, uint64_t src, uint64_t src_offset, uint64_t dst, uint64_t dst_offset,
                        size_t len)
{
	struct timespec now = tree_now();
	struct inode source, before, inode;
	loff_t from = (loff_t)src_offset, to = (loff_t)dst_offset;
	int src_fd, dst_fd;
	uint64_t end;
	ssize_t n;
	int r = regular(t, src, &source);

	if (r == 0)
		r = regular(t, dst, &before);
	if (r < 0)
		return r;
	if (source.content_layer == CONTENT_NONE || src_offset >= source.size || len == 0)
		return 0;
	if (len > COPY_MAX)
		len = COPY_MAX;
	if (len > source.size - src_offset)
		len = source.size - src_offset;
	r = check_room(t, &before, dst_offset, len);
	if (r < 0)
		return r;
	inode = before;
	dst_fd = session_begin_write(t->session, &inode, before.size, now);
	if (dst_fd < 0)
		return dst_fd;
	if (src == dst)
		source = inode;
	src_fd = session_content(t->session, &source);
	n = src_fd < 0 ? 0 : copy_file_range(src_fd, &from, dst_fd, &to, len, 0);
	if (n <= 0) {
		r = n < 0 ? -errno : src_fd < 0 ? src_fd : 0;
		session_write_failed(t->session, &before);
		return r;
	}
	end = dst_offset + (uint64_t)n;
	session_wrote(t->session, dst_fd, dst, end > before.size ? end : before.size, now);
	return n;
}

int tree_fsync(struct tree *t, uint64_t ino)
{
	struct layer *top = stack_top(&t->session->stack);
	struct inode inode;
	int r = stack_inode(&t->session->stack, ino, &inode);

	if (r < 0)
		return r;
	if (S_ISREG(inode.mode) && inode.content_layer == top->id) {
		int fd = session_content(t->session, &inode);

		if (fd < 0)
			return fd;
		/* Content first: a record must never name bytes that can still vanish. */
		if (fdatasync(fd) < 0)
			return -errno;
	}
	r = journal_sync(top->journal);
	/* A layer that a power cut takes back with its manifest would take the bytes along. */
	return r < 0 ? r : session_sync_manifest(t->session);
}

int tree_statfs(struct tree *t, struct statvfs *out)
{
	struct session *s = t->session;

	if (fstatvfs(s->dirfd, out) < 0)
		return -errno;
	quota_statfs(&s->quota, &s->stack, out);
	return 0;
}
