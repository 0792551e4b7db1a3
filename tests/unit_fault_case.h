/*
 * unit_fault_case: one operation in a world, tried with every fault at every call.
 * Invariant: each try has a world of its own, made the same way.
 * Called by the tests of what fails below.
 */
#pragma once

#include "unit_fault.h"
#include "unit_op.h"

struct fault_case {
	const char *name;
	void (*prepare)(struct world *w, const struct fault_case *c); /* may be NULL */
	int (*run)(struct world *w, const struct fault_case *c);      /* 0 or -errno */
	struct op op;                                                 /* for run */
};

/* The base that every case has, and the session on it: files in the base, in a layer below, in the top layer. */
void fault_fill_base(int basefd);
void fault_make_world(struct world *w);

/*
 * Promises, for each fault at each call: an operation that answers -errno changed nothing, one that answers 0 did all
 * of it; afterwards it can be done, a reload gives what is in memory, and no descriptor or file is left over. With
 * FAULT_BYTES the reload after a failure is one after an orderly end.
 */
void fault_try(const struct fault_case *c);

/* The same without FAULT_BYTES. */
void fault_try_told(const struct fault_case *c);

/* The same for many calls that are alike: at call 1, 1 + stride, ... */
void fault_try_some(const struct fault_case *c, unsigned int stride);

/* Tries every fault at call 1, 1 + stride, ..., until step answers that it did not come. */
typedef bool fault_step(void *arg, enum fault fault, unsigned int nr);
void fault_each(unsigned int stride, fault_step *step, void *arg);

/* Fails the test when this is no answer that the fault explains. */
void fault_expect_errno(enum fault fault, int r, const char *when);
