/*
 * unit_worker: promises of worker.
 * Invariant: every job says where it ran and when it was given back.
 * Called by meson test.
 */
#include "worker.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "unit.h"

enum { JOBS = 1000, ROUNDS = 50, ABOVE = 100 /* a descriptor above all others */ };

struct note {
	struct job job;
	unsigned int *ran, *ended; /* how many before */
	pthread_t thread;
	int fd; /* what the job looks at */
	bool open;
};

static void run(struct job *job)
{
	struct note *n = (struct note *)job;

	n->thread = pthread_self();
	n->open = fcntl(n->fd, F_GETFD) >= 0;
	++*n->ran;
}

static void end(struct job *job)
{
	struct note *n = (struct note *)job;

	assert_true(*n->ran > *n->ended);
	++*n->ended;
}

static void reap(struct worker *w)
{
	struct pollfd ready = {.fd = worker_fd(w), .events = POLLIN};

	assert_int_equal(poll(&ready, 1, -1), 1);
	worker_reap(w);
}

static void jobs_run_elsewhere_and_end_here(void **state)
{
	static struct note notes[JOBS];
	unsigned int ran = 0, ended = 0;
	struct worker *w;

	assert_int_equal(worker_new(&w), 0);
	for (int i = 0; i < JOBS; i++) {
		notes[i] = (struct note){.job = {.run = run, .done = end}, .ran = &ran, .ended = &ended};
		worker_give(w, &notes[i].job);
		if (i == JOBS / 2)
			reap(w);
	}
	worker_free(w);
	assert_int_equal(ended, JOBS);
	for (int i = 0; i < JOBS; i++)
		assert_false(pthread_equal(notes[i].thread, pthread_self()));
}

static void a_job_that_others_have_run_ends_here_too(void **state)
{
	unsigned int ran = 2, ended = 0;
	struct note n = {.job = {.done = end}, .ran = &ran, .ended = &ended};
	struct worker *w;

	assert_int_equal(worker_new(&w), 0);
	worker_hand_back(w, &n.job);
	assert_int_equal(ended, 0);
	reap(w);
	assert_int_equal(ended, 1);
	worker_hand_back(w, &n.job);
	worker_free(w);
	assert_int_equal(ended, 2);
}

/* What a job sees of a descriptor of this process. */
static bool is_open_in(struct worker *w, int fd)
{
	unsigned int ran = 0, ended = 0;
	struct note n = {.job = {.run = run, .done = end}, .ran = &ran, .ended = &ended, .fd = fd};

	worker_give(w, &n.job);
	while (ended == 0)
		reap(w);
	return n.open;
}

/* At once: what this process closes is closed. */
static void a_worker_apart_keeps_nothing_open(void **state)
{
	for (int i = 0; i < ROUNDS; i++) {
		int ends[2], number, between, above, device = open("/dev/null", O_RDWR | O_CLOEXEC);
		struct worker *w;
		char byte;

		assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
		number = dup(ends[0]);
		between = dup(ends[1]);
		above = fcntl(ends[1], F_DUPFD_CLOEXEC, ABOVE);
		assert_int_equal(worker_new_apart(device, number, &w), 0);
		close(ends[1]);
		close(between);
		close(above);
		assert_int_equal(read(ends[0], &byte, 1), 0);
		assert_true(is_open_in(w, number));
		assert_false(is_open_in(w, ends[0]));
		worker_free(w);
		close(ends[0]);
		close(number);
		close(device);
	}
}

static void a_worker_that_cannot_go_apart_is_none(void **state)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct worker *w = NULL;

	assert_int_equal(worker_new_apart(fd, fd, &w), -EINVAL);
	assert_null(w);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(jobs_run_elsewhere_and_end_here),
		cmocka_unit_test(a_job_that_others_have_run_ends_here_too),
		cmocka_unit_test(a_worker_apart_keeps_nothing_open),
		cmocka_unit_test(a_worker_that_cannot_go_apart_is_none),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
