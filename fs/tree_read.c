/*
 * tree_read: reads the bytes of regular files, at once or by another thread.
 * Invariant: what another thread reads is of the content files that the file had when it was asked for, whatever becomes of
 * their names, of the file and of the session meanwhile.
 * Called by the front end and by tests.
 */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "cleanup.h"

enum {
	NEAR = 256 << 10,   /* bytes, in either direction, between where a reader stopped and where it goes on */
	CACHESTAT_NR = 451, /* on all machines; headers may be older */
};

/* As in <linux/mman.h> of Linux 6.5. */
struct cache_range {
	uint64_t offset, len;
};

struct cache_count {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

/*
 * 0 when the host would have to read. Asked first, because a read that may not wait still begins to read ahead, which
 * takes longer than anybody should wait for the loop. -errno where nobody can tell: before Linux 6.5, of others' files.
 */
static int is_cached(int fd, uint64_t offset, uint64_t len)
{
	struct cache_range range = {.offset = offset, .len = len};
	uint64_t page = (uint64_t)getpagesize();
	struct cache_count count;

	if (len == 0)
		return 1;
	if (syscall(CACHESTAT_NR, fd, &range, &count, 0) < 0)
		return -errno;
	return count.cached >= (offset + len - 1) / page - offset / page + 1;
}

static ssize_t read_waiting(int fd, char *buf, size_t len, uint64_t offset)
{
	ssize_t n;

	do {
		n = pread(fd, buf, len, (off_t)offset);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* -EAGAIN when it would wait. In files of a host's file system that cannot tell, it waits. */
static ssize_t read_at_once(int fd, char *buf, size_t len, uint64_t offset, enum tree_host *host)
{
	struct iovec part = {.iov_base = buf, .iov_len = len};
	ssize_t n;

	if (*host == TREE_HOST_WAITS)
		return read_waiting(fd, buf, len, offset);
	do {
		n = preadv2(fd, &part, 1, (off_t)offset, RWF_NOWAIT);
	} while (n < 0 && errno == EINTR);
	if (n >= 0 || errno != EOPNOTSUPP) {
		*host = TREE_HOST_TELLS;
		return n < 0 ? -errno : n;
	}
	*host = TREE_HOST_WAITS;
	return read_waiting(fd, buf, len, offset);
}

/* What lies in one content file, up to len bytes. */
static ssize_t read_piece(struct tree *t, const struct inode *inode, int fd, char *buf, size_t len, uint64_t offset,
                          bool at_once)
{
	enum tree_host *host = &t->hosts[inode->content_layer == CONTENT_BASE];
	uint64_t size = offset < inode->size ? inode->size - offset : 0;

	if (!at_once)
		return read_waiting(fd, buf, len, offset);
	if (*host == TREE_HOST_TELLS && is_cached(fd, offset, len < size ? len : size) == 0)
		return -EAGAIN;
	return read_at_once(fd, buf, len, offset, host);
}

static ssize_t read_pieces(struct tree *t, const struct inode *inode, char *buf, size_t len, uint64_t offset,
                           bool at_once)
{
	size_t done = 0;
	ssize_t n = 1;

	/* Not to stop before the end of the file: the kernel takes a short answer for that. */
	while (n != 0 && done < len && (done == 0 || offset + done < inode->size)) {
		struct session_piece piece;
		int fd;
		int r = session_piece(t->session, inode, offset + done, &piece);

		if (r < 0)
			return r;
		fd = session_content(t->session, &piece.inode);
		if (fd == -ENODATA)
			return 0;
		if (fd < 0)
			return fd;
		n = read_piece(t, &piece.inode, fd, buf + done, piece.len < len - done ? (size_t)piece.len : len - done,
		               offset + done, at_once);
		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t tree_read(struct tree *t, uint64_t ino, void *buf, size_t len, uint64_t offset)
{
	struct inode inode;
	int r = tree_regular(t, ino, &inode);

	return r < 0 ? r : read_pieces(t, &inode, buf, len, offset, false);
}

/*
 * Who reads on where another thread read is not looked at again: that the host has read ahead for it would be seen, and the
 * loop would be who reads ahead further.
 */
static bool is_stream(const struct tree *t, uint64_t ino, uint64_t offset)
{
	const struct tree_stream *s = &t->streams[ino % TREE_STREAMS];

	return s->ino == ino && offset <= s->next + NEAR && s->next <= offset + NEAR;
}

ssize_t tree_read_now(struct tree *t, uint64_t ino, void *buf, size_t len, uint64_t offset)
{
	struct inode inode;
	int r = tree_regular(t, ino, &inode);

	if (r < 0)
		return r;
	return is_stream(t, ino, offset) ? -EAGAIN : read_pieces(t, &inode, buf, len, offset, true);
}

int tree_place(struct tree *t, uint64_t ino, size_t len, uint64_t offset, struct tree_place *out)
{
	struct session_piece piece;
	enum tree_host host;
	struct inode inode;
	int r = tree_regular(t, ino, &inode);
	int fd;

	if (r < 0 || offset >= inode.size)
		return r;
	if (is_stream(t, ino, offset))
		return -EAGAIN;
	if (len > inode.size - offset)
		len = (size_t)(inode.size - offset);
	r = session_piece(t->session, &inode, offset, &piece);
	host = t->hosts[piece.inode.content_layer == CONTENT_BASE];
	if (r < 0 || piece.len < len || host == TREE_HOST_NEW)
		return r;
	fd = session_content(t->session, &piece.inode);
	if (fd < 0)
		return fd == -ENODATA ? 0 : fd;
	r = host == TREE_HOST_TELLS ? is_cached(fd, offset, len) : 1;
	if (r <= 0)
		return r < 0 ? 0 : -EAGAIN;
	*out = (struct tree_place){.fd = fd, .len = len};
	return 1;
}

/* A descriptor of its own for a content file, or the one that an earlier piece has. */
static int keep_file(struct tree *t, struct tree_fetch *f, const struct inode *inode)
{
	unsigned int i = 0;
	int fd;

	while (i < f->n_files && f->files[i].layer != inode->content_layer)
		i++;
	if (i < f->n_files)
		return (int)i;
	if (i == TREE_FETCH_FILES)
		return -EMFILE;
	fd = session_content(t->session, inode);
	if (fd < 0)
		return fd;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	f->files[i].layer = inode->content_layer;
	f->files[i].fd = fd;
	f->n_files++;
	return (int)i;
}

static int add_pieces(struct tree *t, const struct inode *inode, size_t len, struct tree_fetch *f)
{
	uint64_t end = f->offset + len, at = f->offset;

	do {
		struct session_piece piece;
		int file;
		int r = session_piece(t->session, inode, at, &piece);

		if (r < 0)
			return r;
		if (f->n_pieces == TREE_FETCH_PIECES)
			return -EMFILE;
		file = keep_file(t, f, &piece.inode);
		if (file < 0)
			return file == -ENODATA ? 0 : file;
		if (piece.len > end - at)
			piece.len = end - at;
		f->pieces[f->n_pieces].file = (unsigned int)file;
		f->pieces[f->n_pieces].len = (size_t)piece.len;
		f->n_pieces++;
		at += piece.len;
	} while (at < end && at < inode->size);
	return 0;
}

int tree_fetch_init(struct tree *t, uint64_t ino, size_t len, uint64_t offset, struct tree_fetch *out)
{
	struct inode inode;
	int r = tree_regular(t, ino, &inode);

	out->offset = offset;
	out->n_files = out->n_pieces = 0;
	if (r == 0)
		r = add_pieces(t, &inode, len, out);
	if (r < 0)
		tree_fetch_fini(out);
	else
		t->streams[ino % TREE_STREAMS] = (struct tree_stream){.ino = ino, .next = offset + len};
	return r;
}

ssize_t tree_fetch_run(const struct tree_fetch *f, void *buf)
{
	size_t done = 0;

	for (unsigned int i = 0; i < f->n_pieces; i++) {
		size_t end = done + f->pieces[i].len;
		int fd = f->files[f->pieces[i].file].fd;

		while (done < end) {
			ssize_t n = read_waiting(fd, (char *)buf + done, end - done, f->offset + done);

			/* A file that was cut meanwhile ends here, also when what lay behind is elsewhere. */
			if (n <= 0)
				return n < 0 ? n : (ssize_t)done;
			done += (size_t)n;
		}
	}
	return (ssize_t)done;
}

void tree_fetch_warm(const struct tree_fetch *f, void *buf, size_t size)
{
	uint64_t at = f->offset;

	for (unsigned int i = 0; i < f->n_pieces; i++) {
		uint64_t end = at + f->pieces[i].len;

		while (at < end) {
			ssize_t n = read_waiting(f->files[f->pieces[i].file].fd, buf,
			                         end - at < size ? (size_t)(end - at) : size, at);

			if (n <= 0)
				return;
			at += (uint64_t)n;
		}
	}
}

void tree_fetch_fini(struct tree_fetch *f)
{
	for (unsigned int i = 0; i < f->n_files; i++)
		close_fd(f->files[i].fd);
	f->n_files = f->n_pieces = 0;
}

/* True when the host would have to read some of these bytes. What cannot be told is left to who reads. */
static bool reads_wait(struct tree *t, const struct inode *inode, uint64_t from, uint64_t to)
{
	if (to > inode->size)
		to = inode->size;
	while (from < to) {
		struct session_piece piece;
		uint64_t len;
		int fd;

		if (session_piece(t->session, inode, from, &piece) < 0)
			return false;
		fd = session_content(t->session, &piece.inode);
		len = piece.len < to - from ? piece.len : to - from;
		if (fd < 0)
			return false;
		if (!is_cached(fd, from, len))
			return true;
		from += len;
	}
	return false;
}

bool tree_read_waits(struct tree *t, uint64_t ino, size_t len, uint64_t offset)
{
	struct inode inode;

	if (tree_regular(t, ino, &inode) < 0 || offset >= inode.size)
		return false;
	return is_stream(t, ino, offset) || reads_wait(t, &inode, offset, offset + len);
}

bool tree_write_waits(struct tree *t, uint64_t ino, size_t len, uint64_t offset, bool at_once, struct range *out)
{
	struct session_write w = {.from = offset, .to = offset + len, .at_once = at_once};
	struct range ranges[2];
	struct inode inode;
	size_t n;

	if (offset > INT64_MAX - len || tree_regular(t, ino, &inode) < 0)
		return false;
	n = session_write_reads(t->session, &inode, &w, ranges);
	for (size_t i = 0; i < n; i++) {
		*out = ranges[i];
		if (reads_wait(t, &inode, out->from, out->to))
			return true;
	}
	return false;
}
