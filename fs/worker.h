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

/* Finishes every job that was given, calls done for each, and ends the thread. NULL is no worker. */
void worker_free(struct worker *w);

void worker_give(struct worker *w, struct job *job);

/* Readable when jobs have ended. */
int worker_fd(const struct worker *w);

/* Calls done for each job that has ended. */
void worker_reap(struct worker *w);
