/*
 * worker: a thread that does jobs in order, so that the loop does not wait for them.
 *
 * A job is a member of its owner's structure. run is called on the worker's thread; then done on the thread
 * that calls worker_reap(), which owns the job again.
 */
#pragma once

#include <stdbool.h>

struct worker;

struct job {
	void (*run)(struct job *job);
	void (*done)(struct job *job);
	struct job *next;
};

int worker_new(struct worker **out);

/*
 * A worker whose thread shares no descriptors with the rest of the process (unshare(2), CLONE_FILES): in its jobs the number
 * `number` is a descriptor of what `fd` is, which stays open until worker_free(), and no other one of the process is open. What
 * the process closes, also by dying, is then closed however long a job waits in the kernel. -EINVAL when the two are the same,
 * -ENOSYS before Linux 5.9 (close_range(2));
 * with an fd of -1 it is as worker_new().
 */
int worker_new_apart(int fd, int number, struct worker **out);

/* Finishes every job that was given, calls done for each, and ends the thread. NULL is no worker. */
void worker_free(struct worker *w);

void worker_give(struct worker *w, struct job *job);

/* For a job that another thread has run: it waits for worker_reap() like those that ended here. */
void worker_hand_back(struct worker *w, struct job *job);

/* Readable when jobs have ended. */
int worker_fd(const struct worker *w);

/* Calls done for each job that has ended. */
void worker_reap(struct worker *w);
