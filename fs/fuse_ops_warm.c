/*
 * fuse_ops_warm: writes and copies that would wait for a disk wait with another thread, which reads what they are going to read.
 * Invariant: until the loop carries it out, as if it had come then, nothing of a request has happened.
 * Called by fuse_ops_file.c, and by the loop when there is something to carry out.
 */
#include "fuse_ops_reply.h"

#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "worker.h"

enum {
	BYTES_MAX = 32 << 20, /* what was sent with the requests that wait */
	TRIES = 3,            /* what was read may be gone from memory again */
	BUFFER = 64 << 10,
};

struct warm {
	struct job job;
	struct fuse_ops *ops;
	struct fuse_ops_bytes request;
	struct tree_fetch fetch;
	size_t size;  /* of bytes */
	char bytes[]; /* the request's */
};

static void read_all(struct job *job)
{
	const struct warm *w = (struct warm *)job;
	cleanup_free char *buffer = malloc(BUFFER); /* without it the loop reads, and waits itself */

	if (buffer)
		tree_fetch_warm(&w->fetch, buffer, BUFFER);
}

static void carry_out(struct job *job)
{
	struct warm *w = (struct warm *)job;
	struct fuse_ops *ops = w->ops;

	ops->warming.requests--;
	ops->warming.files -= w->fetch.n_files;
	ops->warming.bytes -= w->size;
	tree_fetch_fini(&w->fetch);
	w->request.carry_out(ops, &w->request);
	free(w);
}

bool fuse_ops_warm(struct fuse_ops *ops, const struct fuse_ops_bytes *request, fuse_ino_t ino, uint64_t from,
                   uint64_t to)
{
	size_t size = request->bytes ? request->size : 0;
	struct warm *w;

	if (!ops->warmer || request->tries == TRIES || ops->warming.bytes + size > BYTES_MAX)
		return false;
	w = malloc(sizeof(*w) + size);
	if (!w || tree_fetch_init(ops->tree, ino, to - from, from, &w->fetch) < 0) {
		free(w);
		return false;
	}
	if (ops->warming.files + w->fetch.n_files > FUSE_OPS_WARM_FILES) {
		tree_fetch_fini(&w->fetch);
		free(w);
		return false;
	}
	w->job = (struct job){.run = read_all, .done = carry_out};
	w->ops = ops;
	w->request = *request;
	w->request.tries++;
	w->size = size;
	if (size > 0)
		w->request.bytes = memcpy(w->bytes, request->bytes, size);
	ops->warming.requests++;
	ops->warming.files += w->fetch.n_files;
	ops->warming.bytes += size;
	worker_give(ops->warmer, &w->job);
	ops->readings++;
	return true;
}

bool fuse_ops_waits(const struct fuse_ops *ops)
{
	return ops->warming.requests > 0;
}

int fuse_ops_fd(const struct fuse_ops *ops)
{
	return worker_fd(ops->warmer);
}

void fuse_ops_ready(struct fuse_ops *ops)
{
	worker_reap(ops->warmer);
}
