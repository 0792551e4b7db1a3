/*
 * fuse_ops_file: the requests about bytes and extended attributes.
 * Invariant: each is decoded, becomes one tree_*() call, and is answered once.
 * Called by libfuse through fuse_ops's table.
 */
#include "fuse_ops_reply.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crew.h"

enum {
	OTHERS_NS = 200000,    /* within one request, for those of others */
	COPYING_NS = 50000000, /* of one request: then it is answered with what was copied */
	COPIED_MAX = 1 << 30,  /* bytes of one request */
	COPY_STEP = 1 << 18,   /* bytes that tree_copy_range() copies, unless it can share blocks */
	WARM_STEP = 1 << 20,   /* bytes that are read for the next steps */
	SPLICE_MIN = 1 << 16,  /* bytes; what is shorter is copied in less time than the system calls take */
};

/* A read that may wait for a disk. It touches neither tree nor session. */
struct waiting {
	struct task task;
	fuse_req_t req;
	struct tree_fetch fetch;
};

static void read_later(struct task *task, void *buffer)
{
	struct waiting *w = (struct waiting *)task;
	ssize_t n = tree_fetch_run(&w->fetch, buffer);

	tree_fetch_fini(&w->fetch); /* before anybody is told */
	fuse_ops_reply_bytes(w->req, n, buffer);
	free(w);
}

/* False when the loop must do it. */
static bool give_read(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino, size_t size, off_t offset)
{
	struct waiting *w = ops->reads ? malloc(sizeof(*w)) : NULL;

	if (!w || tree_fetch_init(ops->tree, ino, size, (uint64_t)offset, &w->fetch) < 0) {
		free(w);
		return false;
	}
	w->task = (struct task){.run = read_later, .files = w->fetch.n_files};
	w->req = req;
	if (crew_give(ops->reads, &w->task)) {
		ops->readings++;
		return true;
	}
	tree_fetch_fini(&w->fetch);
	free(w);
	return false;
}

/* Without bringing the bytes here: half of the work of a long read is to copy them. */
static void reply_from(fuse_req_t req, const struct tree_place *place, off_t offset)
{
	struct fuse_bufvec bytes = FUSE_BUFVEC_INIT(place->len);

	bytes.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	bytes.buf[0].fd = place->fd;
	bytes.buf[0].pos = offset;
	fuse_reply_data(req, &bytes, 0);
}

void fuse_ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_READ);
	struct tree_place place;
	ssize_t n;

	if (size > FUSE_OPS_READ_MAX)
		size = FUSE_OPS_READ_MAX;
	n = size < SPLICE_MIN ? 0 : tree_place(ops->tree, ino, size, (uint64_t)offset, &place);
	if (n > 0) {
		reply_from(req, &place, offset);
		return;
	}
	if (n == 0)
		n = tree_read_now(ops->tree, ino, ops->buffer, size, (uint64_t)offset);
	if (n == -EAGAIN && give_read(req, ops, ino, size, offset))
		return;
	if (n == -EAGAIN)
		n = tree_read(ops->tree, ino, ops->buffer, size, (uint64_t)offset);
	fuse_ops_reply_bytes(req, n, ops->buffer);
}

static void write_bytes(struct fuse_ops *ops, const struct fuse_ops_bytes *w)
{
	struct range cold;
	ssize_t n;

	if (tree_write_waits(ops->tree, w->ino, w->size, w->offset, true, &cold) &&
	    fuse_ops_warm(ops, w, w->ino, cold.from, cold.to))
		return;
	n = tree_write(ops->tree, w->ino, w->bytes, w->size, w->offset);
	if (fuse_ops_made_room(ops, n))
		n = tree_write(ops->tree, w->ino, w->bytes, w->size, w->offset);
	fuse_ops_reply_written(w->req, n);
}

void fuse_ops_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                    struct fuse_file_info *fi)
{
	const struct fuse_ops_bytes w = {
		.carry_out = write_bytes,
		.req = req,
		.ino = ino,
		.offset = (uint64_t)offset,
		.size = size,
		.bytes = bytes,
	};

	struct fuse_ops *ops = fuse_ops_begin(req, KIND_WRITE);

	if (fi->writepage)
		ops->written_back++;
	write_bytes(ops, &w);
}

void fuse_ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_ops_sync(req, fuse_ops_begin(req, KIND_FSYNC), ino);
}

void fuse_ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_ops_sync(req, fuse_ops_begin(req, KIND_FSYNCDIR), ino);
}

void fuse_ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_STATFS);
	struct statvfs st;
	int r;

	ops->options.relieve(ops->options.relieve_arg, fuse_ops_now() + OTHERS_NS);
	r = tree_statfs(ops->tree, &st);
	if (r < 0)
		fuse_ops_reply_status(req, r);
	else
		fuse_reply_statfs(req, &st);
}

void fuse_ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_SETXATTR);
	int r;

	/*
	 * An ACL that is accepted and not honoured takes rights away or gives them: the ones of the base are
	 * shown only.
	 */
	if (!ops->options.xattr || strncmp(name, "system.", 7) == 0) {
		fuse_ops_reply_status(req, ops->options.xattr ? -EOPNOTSUPP : -ENOSYS);
		return;
	}
	r = tree_setxattr(ops->tree, ino, name, value, size, flags);
	if (fuse_ops_made_room(ops, r))
		r = tree_setxattr(ops->tree, ino, name, value, size, flags);
	fuse_ops_reply_status(req, r);
}

void fuse_ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_GETXATTR);
	size_t room = size < FUSE_OPS_READ_MAX ? size : FUSE_OPS_READ_MAX;
	ssize_t n = ops->options.xattr ? tree_getxattr(ops->tree, ino, name, ops->buffer, room) : -ENOSYS;

	if (n >= 0 && size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_ops_reply_bytes(req, n, ops->buffer);
}

void fuse_ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_LISTXATTR);
	size_t room = size < FUSE_OPS_READ_MAX ? size : FUSE_OPS_READ_MAX;
	ssize_t n = ops->options.xattr ? tree_listxattr(ops->tree, ino, ops->buffer, room) : -ENOSYS;

	if (n >= 0 && size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_ops_reply_bytes(req, n, ops->buffer);
}

void fuse_ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_REMOVEXATTR);

	fuse_ops_reply_status(req, ops->options.xattr ? tree_removexattr(ops->tree, ino, name) : -ENOSYS);
}

void fuse_ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_FALLOCATE);
	int r = tree_fallocate(ops->tree, ino, mode, (uint64_t)offset, (uint64_t)len);

	if (fuse_ops_made_room(ops, r))
		r = tree_fallocate(ops->tree, ino, mode, (uint64_t)offset, (uint64_t)len);
	fuse_ops_reply_status(req, r);
}

void fuse_ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	int64_t found = tree_lseek(fuse_ops_begin(req, KIND_LSEEK)->tree, ino, (uint64_t)offset, whence);

	if (found < 0)
		fuse_ops_reply_status(req, (int)found);
	else
		fuse_reply_lseek(req, found);
}

/* True when the next step would wait for bytes of `ino` that are not in memory: where they lie. Of src, once for several steps. */
static bool step_waits(const struct fuse_ops *ops, struct fuse_ops_bytes *c, fuse_ino_t *ino, struct range *cold)
{
	size_t len = c->size - c->done < COPY_STEP ? c->size - c->done : COPY_STEP;
	uint64_t from = c->src_offset + c->done;

	if (ops->shares)
		return false;
	*ino = c->src;
	*cold = (struct range){.from = from, .to = from + WARM_STEP};
	if (from >= c->warm && tree_read_waits(ops->tree, c->src, len, from)) {
		c->warm = cold->to;
		return true;
	}
	*ino = c->ino;
	return tree_write_waits(ops->tree, c->ino, len, c->offset + c->done, false, cold);
}

static ssize_t copy_step(struct fuse_ops *ops, const struct fuse_ops_bytes *c)
{
	uint64_t from = c->src_offset + c->done, to = c->offset + c->done;
	size_t len = c->size - c->done;
	ssize_t n = tree_copy_range(ops->tree, c->src, from, c->ino, to, len);

	if (fuse_ops_made_room(ops, n))
		n = tree_copy_range(ops->tree, c->src, from, c->ino, to, len);
	ops->shares = n > COPY_STEP;
	return n;
}

/* In steps, between which others are answered, and before which it waits: who copies is not asked to come again for each. */
static void copy_bytes(struct fuse_ops *ops, const struct fuse_ops_bytes *request)
{
	struct fuse_ops_bytes c = *request;
	struct range cold;
	fuse_ino_t ino;
	int64_t time;
	ssize_t n;

	do {
		if (step_waits(ops, &c, &ino, &cold) && fuse_ops_warm(ops, &c, ino, cold.from, cold.to))
			return;
		n = copy_step(ops, &c);
		if (n > 0) {
			c.done += (size_t)n;
			c.tries = 0;
		}
		time = fuse_ops_now();
	} while (n > 0 && c.done < c.size && time < c.end &&
	         ops->options.relieve(ops->options.relieve_arg, time + OTHERS_NS) >= 0);
	fuse_ops_reply_written(c.req, c.done > 0 ? (ssize_t)c.done : n);
}

void fuse_ops_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_offset, struct fuse_file_info *src_fi,
                              fuse_ino_t dst, off_t dst_offset, struct fuse_file_info *dst_fi, size_t len, int flags)
{
	const struct fuse_ops_bytes c = {
		.carry_out = copy_bytes,
		.req = req,
		.ino = dst,
		.offset = (uint64_t)dst_offset,
		.size = len < COPIED_MAX ? len : COPIED_MAX,
		.src = src,
		.src_offset = (uint64_t)src_offset,
		.end = fuse_ops_now() + COPYING_NS,
	};

	copy_bytes(fuse_ops_begin(req, KIND_COPY_FILE_RANGE), &c);
}
