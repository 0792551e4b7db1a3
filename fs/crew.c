/*
 * crew: owns threads and one queue under one lock.
 * Invariant: a task is in the queue or with one thread; the tasks that are in either hold no more than files_max. Who begins
 * one leaves an idle thread behind, up to n_max: threads are started by threads, because one that the loop started would have
 * the loop's place and priority.
 * Called by fuse_ops, which makes it and gives it tasks.
 */
#include "crew.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

struct member {
	struct crew *crew;
	pthread_t thread;
	void *buffer;
};

struct crew {
	pthread_mutex_t lock;
	pthread_cond_t wake; /* there is a task, or no more will come */
	struct task *first, **last;
	size_t buffer;
	unsigned int files, files_max; /* descriptors of tasks that have not run */
	unsigned int idle;
	bool stop;
	unsigned int n, n_max;
	struct member members[];
};

static void *serve_tasks(void *arg);

/* Under the lock, or before there is any thread. */
static int add_member(struct crew *c)
{
	struct member *m = &c->members[c->n];
	int r;

	m->crew = c;
	m->buffer = malloc(c->buffer);
	if (!m->buffer)
		return -ENOMEM;
	r = pthread_create(&m->thread, NULL, serve_tasks, m);
	if (r != 0) {
		free(m->buffer);
		return -r;
	}
	c->n++;
	return 0;
}

static struct task *take(struct crew *c)
{
	struct task *task = c->first;

	if (task) {
		c->first = task->next;
		if (!c->first)
			c->last = &c->first;
	}
	return task;
}

static void run_task(struct crew *c, struct task *task, void *buffer)
{
	unsigned int files = task->files; /* the task is gone when it has run */

	pthread_mutex_unlock(&c->lock);
	task->run(task, buffer);
	pthread_mutex_lock(&c->lock);
	c->files -= files;
}

static void *serve_tasks(void *arg)
{
	static const struct sched_param none = {0};
	const struct member *m = arg;
	struct crew *c = m->crew;

	pthread_setschedparam(pthread_self(), SCHED_BATCH, &none); /* where it may not be, it does without */
	pthread_mutex_lock(&c->lock);
	for (;;) {
		struct task *task = take(c);

		if (!task && c->stop)
			break;
		if (!task) {
			c->idle++;
			pthread_cond_wait(&c->wake, &c->lock);
			c->idle--;
			continue;
		}
		if (c->idle == 0 && c->n < c->n_max && !c->stop)
			add_member(c); /* where it cannot, those that are there do it all */
		run_task(c, task, m->buffer);
	}
	pthread_mutex_unlock(&c->lock);
	return NULL;
}

int crew_new(unsigned int threads, size_t buffer, unsigned int files, struct crew **out)
{
	struct crew *c = calloc(1, sizeof(*c) + threads * sizeof(c->members[0]));
	int r;

	if (!c)
		return -ENOMEM;
	c->last = &c->first;
	c->buffer = buffer;
	c->files_max = files;
	c->n_max = threads;
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->wake, NULL);
	pthread_mutex_lock(&c->lock);
	r = add_member(c);
	pthread_mutex_unlock(&c->lock);
	if (r < 0) {
		crew_free(c);
		return r;
	}
	*out = c;
	return 0;
}

bool crew_give(struct crew *c, struct task *task)
{
	bool taken;

	pthread_mutex_lock(&c->lock);
	taken = c->files + task->files <= c->files_max;
	if (taken) {
		c->files += task->files;
		task->next = NULL;
		*c->last = task;
		c->last = &task->next;
		pthread_cond_signal(&c->wake);
	}
	pthread_mutex_unlock(&c->lock);
	return taken;
}

void crew_free(struct crew *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true; /* from here on no thread is started */
	pthread_cond_broadcast(&c->wake);
	pthread_mutex_unlock(&c->lock);
	for (unsigned int i = 0; i < c->n; i++) {
		pthread_join(c->members[i].thread, NULL);
		free(c->members[i].buffer);
	}
	pthread_cond_destroy(&c->wake);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
