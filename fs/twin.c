/*
 * twin: owns two threads of different priority, and whose turn it is.
 * Invariant: the work runs on one of them at a time, and each sees what the other did.
 * Called by serve.
 */
#include "twin.h"

#include <pthread.h>
#include <sched.h>

struct twin {
	pthread_mutex_t lock;
	pthread_cond_t passed;
	enum twin_next next;
	bool alone; /* nobody gives way */
	enum twin_next (*work)(void *arg, bool gives_way);
	void *arg;
};

static void take_turns(struct twin *t, enum twin_next own)
{
	pthread_mutex_lock(&t->lock);
	while (t->next != TWIN_END) {
		enum twin_next next;

		if (t->next != own && !t->alone) {
			pthread_cond_wait(&t->passed, &t->lock);
			continue;
		}
		pthread_mutex_unlock(&t->lock);
		next = t->work(t->arg, own == TWIN_GIVING_WAY);
		pthread_mutex_lock(&t->lock);
		t->next = next;
		pthread_cond_signal(&t->passed);
	}
	pthread_mutex_unlock(&t->lock);
}

static void *give_way(void *arg)
{
	static const struct sched_param none = {0};
	struct twin *t = arg;

	if (pthread_setschedparam(pthread_self(), SCHED_IDLE, &none) == 0) {
		take_turns(t, TWIN_GIVING_WAY);
		return NULL;
	}
	pthread_mutex_lock(&t->lock);
	t->alone = true;
	pthread_cond_signal(&t->passed);
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

void twin_run(enum twin_next (*work)(void *arg, bool gives_way), void *arg)
{
	struct twin t = {.next = TWIN_GIVING_WAY, .work = work, .arg = arg};
	pthread_t other;
	bool created;

	pthread_mutex_init(&t.lock, NULL);
	pthread_cond_init(&t.passed, NULL);
	created = pthread_create(&other, NULL, give_way, &t) == 0;
	if (!created)
		t.alone = true;
	take_turns(&t, TWIN_PLAIN);
	if (created)
		pthread_join(other, NULL);
	pthread_cond_destroy(&t.passed);
	pthread_mutex_destroy(&t.lock);
}
