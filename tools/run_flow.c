/*
 * run_flow: moves bytes between two descriptors.
 * Invariant: reads only what it has room for and writes only to who can take it, so that it never waits.
 */
#include "run.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

enum { ESCAPE = 0x1d };

bool run_flow_wants(const struct run_flow *flow, struct pollfd *fd)
{
	if (flow->at < flow->len)
		*fd = (struct pollfd){.fd = flow->to, .events = POLLOUT};
	else
		*fd = (struct pollfd){.fd = flow->from, .events = POLLIN};
	return fd->fd >= 0;
}

static void count_escapes(struct run_flow *flow)
{
	for (size_t i = 0; i < flow->len; i++)
		flow->escapes = flow->bytes[i] == ESCAPE ? flow->escapes + 1 : 0;
}

static void take(struct run_flow *flow)
{
	ssize_t n = read(flow->from, flow->bytes, sizeof(flow->bytes));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n <= 0) {
		flow->from = -1;
		return;
	}
	flow->at = 0;
	flow->len = (size_t)n;
	count_escapes(flow);
	if (flow->tail)
		run_tail_add(flow->tail, flow->bytes, flow->len);
	if (flow->to < 0)
		flow->at = flow->len;
}

int run_flow_move(struct run_flow *flow, const struct pollfd *fd)
{
	ssize_t n;

	if (!fd->revents)
		return 0;
	if (flow->at >= flow->len) {
		take(flow);
		return 0;
	}
	n = write(flow->to, flow->bytes + flow->at, flow->len - flow->at);
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n < 0) {
		int r = -errno;

		flow->at = flow->len; /* what nobody takes is dropped */
		flow->to = -1;
		return r;
	}
	flow->at += (size_t)n;
	return 0;
}
