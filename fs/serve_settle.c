/*
 * serve_settle: owns nothing.
 * Invariant: requests are answered in the order in which the kernel hands them out.
 * Called by serve.
 */
#include "serve_settle.h"

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <poll.h>

enum {
	OTHERS_MAX = 256, /* requests in a row, none of them a write of the kernel's own: there are no more of those */
	LOOK_MS = 10,
};

static const int64_t longest = 10000000000; /* ns: who changes a mapping without end keeps nobody for ever */

/* The kernel's own writes come in order with what clients ask, who may ask on and on. */
static void answer(struct fuse_session *fuse, struct fuse_buf *buf, const struct fuse_ops *ops, int64_t until)
{
	int others = 0;

	while (others < OTHERS_MAX && fuse_ops_now() < until) {
		uint64_t before = fuse_ops_written_back(ops);

		if (fuse_session_receive_buf(fuse, buf) <= 0)
			return;
		fuse_session_process_buf(fuse, buf);
		others = fuse_ops_written_back(ops) == before ? others + 1 : 0;
	}
}

void serve_settle(struct fuse_session *fuse, struct fuse_buf *buf, struct fuse_ops *ops)
{
	struct pollfd warm = {.fd = fuse_ops_fd(ops), .events = POLLIN};
	int64_t until = fuse_ops_now() + longest;

	answer(fuse, buf, ops, until);
	while (fuse_ops_waits(ops) && fuse_ops_now() < until) {
		poll(&warm, 1, LOOK_MS);
		fuse_ops_ready(ops);
		answer(fuse, buf, ops, until);
	}
}
