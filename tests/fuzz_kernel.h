/*
 * fuzz_kernel: the kernel's end of FUSE, without a kernel: requests as bytes, and what was answered.
 * Invariant: every request that wants an answer gets one, whole and with its number, before the next is asked.
 * Called by the fuzz targets that serve a session.
 */
#pragma once

#include "fuse_ops.h"
#include "unit_world.h"

enum { KERNEL_NODES_MAX = 128, KERNEL_BODY_MAX = 1 << 16, KERNEL_INTERRUPTS_MAX = 8 };

struct kernel {
	struct world *w;
	struct fuse_ops *ops;
	struct fuse_session *fuse;
	uint64_t nodes[KERNEL_NODES_MAX]; /* told by answers */
	size_t n_nodes;
	uint64_t unique; /* of the request being answered */
	uint32_t opcode;
	unsigned int n_answers;
	int error;                                  /* of the last answer, 0 or -errno */
	uint64_t lost;                              /* a request that nobody waits for any more */
	uint64_t interrupts[KERNEL_INTERRUPTS_MAX]; /* their numbers, while they may be answered */
	size_t n_interrupts;
	_Alignas(8) unsigned char request[KERNEL_BODY_MAX + 4096]; /* zeros behind it */
};

/* Serves the open session of w; nothing is asked yet, not even INIT. */
void kernel_start(struct kernel *k, struct world *w, const struct fuse_ops_options *options);
void kernel_stop(struct kernel *k);

/* INIT as a kernel of today sends it. */
void kernel_init(struct kernel *k);

/*
 * Interrupts the last request, or the one that is asked next, as a signal to a process that waits does. dies: the process is
 * gone before the answer comes. Nothing is done while libfuse keeps KERNEL_INTERRUPTS_MAX of them.
 */
void kernel_interrupt(struct kernel *k, bool next, bool dies);

/* Asks: len bytes of body, at most KERNEL_BODY_MAX. The error of the answer, 0 or -errno. */
int kernel_ask(struct kernel *k, uint32_t opcode, uint64_t node, uint32_t uid, const void *body, size_t len);
