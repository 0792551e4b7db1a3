/*
 * worker: owns one thread and two queues under one lock.
 * Invariant: a job is in one queue or with one thread, never in two places.
 * Called by removals, serve_control and fuse_ops.
 */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>

#include "cleanup.h"

struct queue {
	struct job *first, **last;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct queue todo, ended;
	int eventfd;
	int fd, number; /* of a worker apart: borrowed, and what it is in the thread. Else -1 */
	int error;      /* of the thread's start; 1: it has not started */
	bool stop;
};

static void put(struct queue *q, struct job *job)
{
	job->next = NULL;
	*q->last = job;
	q->last = &job->next;
}

static struct job *take(struct queue *q)
{
	struct job *job = q->first;

	if (job) {
		q->first = job->next;
		if (!q->first)
			q->last = &q->first;
	}
	return job;
}

static int close_between(int first, int next)
{
	return first < next ? close_range((unsigned int)first, (unsigned int)next - 1, 0) : 0;
}

/* Leaves the process's descriptors behind, but for two. */
static int go_apart(const struct worker *w)
{
	int low = w->number < w->eventfd ? w->number : w->eventfd;
	int high = w->number < w->eventfd ? w->eventfd : w->number;

	if (unshare(CLONE_FILES) < 0 || dup3(w->fd, w->number, O_CLOEXEC) < 0)
		return -errno;
	if (close_between(0, low) < 0 || close_between(low + 1, high) < 0 || close_between(high + 1, INT_MAX) < 0)
		return -errno;
	return 0;
}

/* Says how the start went: whoever made the worker waits for that. */
static int start(struct worker *w)
{
	int r = w->fd >= 0 ? go_apart(w) : 0;

	pthread_mutex_lock(&w->lock);
	w->error = r;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	return r;
}

static int wait_for_start(struct worker *w)
{
	int r;

	pthread_mutex_lock(&w->lock);
	while (w->error > 0)
		pthread_cond_wait(&w->wake, &w->lock);
	r = w->error;
	pthread_mutex_unlock(&w->lock);
	return r;
}

/* Under the lock. */
static void hand_back(struct worker *w, struct job *job)
{
	uint64_t one = 1;

	put(&w->ended, job);
	if (write(w->eventfd, &one, sizeof(one)) < 0)
		return; /* the counter is full: the loop is awake already */
}

static void *work(void *arg)
{
	struct worker *w = arg;

	if (start(w) < 0)
		return NULL;
	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct job *job = take(&w->todo);

		if (!job && w->stop)
			break;
		if (!job) {
			pthread_cond_wait(&w->wake, &w->lock);
			continue;
		}
		pthread_mutex_unlock(&w->lock);
		job->run(job);
		pthread_mutex_lock(&w->lock);
		hand_back(w, job);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void worker_give(struct worker *w, struct job *job)
{
	pthread_mutex_lock(&w->lock);
	put(&w->todo, job);
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
}

void worker_hand_back(struct worker *w, struct job *job)
{
	pthread_mutex_lock(&w->lock);
	hand_back(w, job);
	pthread_mutex_unlock(&w->lock);
}

int worker_fd(const struct worker *w)
{
	return w->eventfd;
}

static void end_jobs(struct worker *w)
{
	for (;;) {
		struct job *job;

		pthread_mutex_lock(&w->lock);
		job = take(&w->ended);
		pthread_mutex_unlock(&w->lock);
		if (!job)
			return;
		job->done(job);
	}
}

void worker_reap(struct worker *w)
{
	uint64_t count;

	if (read(w->eventfd, &count, sizeof(count)) > 0)
		end_jobs(w);
}

void worker_free(struct worker *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	end_jobs(w);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	close_fd(w->eventfd);
	free(w);
}

static int make(int fd, int number, struct worker **out)
{
	struct worker *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return -ENOMEM;
	w->fd = fd;
	w->number = number;
	w->error = 1;
	w->todo.last = &w->todo.first;
	w->ended.last = &w->ended.first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	w->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = w->eventfd < 0 ? errno : pthread_create(&w->thread, NULL, work, w);
	if (r != 0) {
		close_fd(w->eventfd);
		free(w);
		return -r;
	}
	r = wait_for_start(w);
	if (r < 0) {
		worker_free(w);
		return r;
	}
	*out = w;
	return 0;
}

int worker_new(struct worker **out)
{
	return make(-1, -1, out);
}

int worker_new_apart(int fd, int number, struct worker **out)
{
	return make(fd, number, out);
}
