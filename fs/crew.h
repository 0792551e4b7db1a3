/*
 * crew: a few threads for tasks that may wait for a disk, so that the loop does not.
 *
 * A task is a member of its owner's structure, and belongs to the thread that runs it: run answers whoever waits, and
 * frees. Nothing comes back to the loop, which then need not be woken. Tasks are begun in order, and end in any.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct crew;

struct task {
	void (*run)(struct task *task, void *buffer); /* the buffer is the thread's */
	unsigned int files;                           /* descriptors that it holds until it has run */
	struct task *next;
};

/*
 * With one thread, and more, up to this many, when they are busy. They have the caller's nice value, and take the CPU from
 * nobody who runs (SCHED_BATCH, see sched(7)), but from a loop that gives way. buffer: bytes that each has; files: what all tasks that have not run may hold. 0 or -errno.
 */
int crew_new(unsigned int threads, size_t buffer, unsigned int files, struct crew **out);

/* Takes the task, or (false) has too many already: the caller does it. */
bool crew_give(struct crew *c, struct task *task);

/* Returns when every task has run. NULL is no crew. */
void crew_free(struct crew *c);
