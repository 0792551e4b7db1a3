/*
 * crew: owns threads and one queue under one lock.
 * Invariant: a task is in the queue or with one thread; the tasks that are in either hold no more than files_max. Who begins
 * one leaves an idle thread behind, up to n_max: threads are started by threads, because one that the loop started would have
 * the loop's place and priority.
 * Called by serve, which makes it, and fuse_ops, which gives it tasks.
 */
#include "crew.h"

#include <errno.h>
#include <pthread.h>
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
static int add_member(struct crew *p)
{
	struct member *m = &p->members[p->n];
	int r;

	m->crew = p;
	m->buffer = malloc(p->buffer);
	if (!m->buffer)
		return -ENOMEM;
	r = pthread_create(&m->thread, NULL, serve_tasks, m);
	if (r != 0) {
		free(m->buffer);
		return -r;
	}
	p->n++;
	return 0;
}

static struct task *take(struct crew *p)
{
	struct task *task = p->first;

	if (task) {
		p->first = task->next;
		if (!p->first)
			p->last = &p->first;
	}
	return task;
}

static void run_task(struct crew *p, struct task *task, void *buffer)
{
	unsigned int files = task->files; /* the task is gone when it has run */

	pthread_mutex_unlock(&p->lock);
	task->run(task, buffer);
	pthread_mutex_lock(&p->lock);
	p->files -= files;
}

static void *serve_tasks(void *arg)
{
	const struct member *m = arg;
	struct crew *p = m->crew;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		struct task *task = take(p);

		if (!task && p->stop)
			break;
		if (!task) {
			p->idle++;
			pthread_cond_wait(&p->wake, &p->lock);
			p->idle--;
			continue;
		}
		if (p->idle == 0 && p->n < p->n_max && !p->stop)
			add_member(p); /* where it cannot, those that are there do it all */
		run_task(p, task, m->buffer);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

int crew_new(unsigned int threads, size_t buffer, unsigned int files, struct crew **out)
{
	struct crew *p = calloc(1, sizeof(*p) + threads * sizeof(p->members[0]));
	int r;

	if (!p)
		return -ENOMEM;
	p->last = &p->first;
	p->buffer = buffer;
	p->files_max = files;
	p->n_max = threads;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	pthread_mutex_lock(&p->lock);
	r = add_member(p);
	pthread_mutex_unlock(&p->lock);
	if (r < 0) {
		crew_free(p);
		return r;
	}
	*out = p;
	return 0;
}

bool crew_give(struct crew *p, struct task *task)
{
	bool taken;

	pthread_mutex_lock(&p->lock);
	taken = p->files + task->files <= p->files_max;
	if (taken) {
		p->files += task->files;
		task->next = NULL;
		*p->last = task;
		p->last = &task->next;
		pthread_cond_signal(&p->wake);
	}
	pthread_mutex_unlock(&p->lock);
	return taken;
}

void crew_free(struct crew *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true; /* from here on no thread is started */
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
	for (unsigned int i = 0; i < p->n; i++) {
		pthread_join(p->members[i].thread, NULL);
		free(p->members[i].buffer);
	}
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}
