/*
 * unit_follow: promises of follow and twin, with real threads, processes and CPUs.
 * Invariant: every process that is started is ended, also when an expectation fails before.
 * Called by meson test.
 */
#include "follow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "twin.h"
#include "unit.h"

enum { TURNS = 1000, LOOKS = 3 };

static int last_cpu(void)
{
	cpu_set_t allowed;
	int last = -1;

	assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET((size_t)cpu, &allowed))
			last = cpu;
	}
	return last;
}

static void stay_on(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)cpu, &one);
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

/* A process that does nothing but run on one CPU, and ends with this one. Its first byte says that it runs. */
static pid_t start_busy(int cpu)
{
	int fds[2];
	char byte = 0;
	pid_t pid;

	assert_int_equal(pipe(fds), 0);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		stay_on(cpu);
		if (write(fds[1], &byte, 1) != 1)
			_exit(1);
		for (;;)
			continue;
	}
	assert_true(pid > 0);
	assert_int_equal(read(fds[0], &byte, 1), 1);
	close(fds[0]);
	close(fds[1]);
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

struct seen {
	cpu_set_t cpus;
	int policies[2];
	unsigned int turns[2], passes;
	pid_t client, other;
	bool reads; /* other threads do, all the time */
	bool crowd; /* no CPU is idle */
	int looks;
	int64_t patience;
	bool passed;
};

static enum twin_next follow_client(void *arg, bool gives_way)
{
	struct seen *seen = arg;
	struct follow f;

	follow_init(&f);
	follow_start(&f, gives_way);
	for (int looks = 0; looks < LOOKS && !seen->passed;) {
		int64_t looked = f.looked;

		seen->passed = follow_turn(&f, seen->client, seen->reads ? seen->turns[true] + 1 : 0);
		seen->turns[gives_way]++;
		looks += f.looked != looked;
	}
	seen->patience = f.patience;
	sched_getaffinity(0, sizeof(seen->cpus), &seen->cpus);
	return TWIN_END;
}

static void a_thread_that_gives_way_goes_where_its_client_is(void **state)
{
	int cpu = last_cpu();
	struct seen seen = {.client = start_busy(cpu)};

	twin_run(follow_client, &seen);
	end(seen.client);
	assert_int_equal(CPU_COUNT(&seen.cpus), 1);
	assert_true(CPU_ISSET((size_t)cpu, &seen.cpus));
}

static void a_client_that_is_nowhere_moves_nobody(void **state)
{
	cpu_set_t before;
	struct seen seen = {.client = 0};

	assert_int_equal(sched_getaffinity(0, sizeof(before), &before), 0);
	twin_run(follow_client, &seen);
	assert_true(CPU_EQUAL(&before, &seen.cpus));
}

static void looks_are_rare(void **state)
{
	struct seen seen = {.client = getpid()};

	twin_run(follow_client, &seen);
	assert_true(seen.turns[true] > LOOKS * 10);
}

static enum twin_next starve(void *arg, bool gives_way)
{
	struct seen *seen = arg;
	struct follow f;

	if (!gives_way)
		return TWIN_END;
	follow_init(&f);
	f.cpus = seen->crowd ? 0 : INT_MAX;
	follow_start(&f, true);
	stay_on(last_cpu()); /* follow_start() lets it go anywhere */
	for (seen->looks = 0; seen->looks < TURNS && !seen->passed;) {
		int64_t looked = f.looked;

		seen->passed = follow_turn(&f, seen->looks % 2 ? seen->other : seen->client, 0);
		seen->looks += f.looked != looked;
		sched_yield();
	}
	return seen->passed ? TWIN_PLAIN : TWIN_END;
}

static void a_thread_that_starves_is_replaced(void **state)
{
	pid_t busy = start_busy(last_cpu());
	struct seen seen = {0};

	twin_run(starve, &seen);
	end(busy);
	assert_true(seen.passed);
}

/* Its clients run all the time that it waits, so nothing is known to be lost; but there is a crowd. */
static void a_thread_that_starves_in_a_crowd_is_replaced_soon(void **state)
{
	struct seen seen = {.client = start_busy(last_cpu()), .other = start_busy(last_cpu()), .crowd = true};

	twin_run(starve, &seen);
	end(seen.client);
	end(seen.other);
	assert_true(seen.passed);
	assert_true(seen.looks <= FOLLOW_CROWD_MAX / 4);
}

static void a_thread_that_takes_over_is_bound_to_no_cpu(void **state)
{
	struct follow f;
	cpu_set_t now;

	follow_init(&f);
	stay_on(last_cpu());
	follow_start(&f, true);
	assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
	assert_true(CPU_EQUAL(&now, &f.allowed));
}

static void a_plain_thread_has_patience(void **state)
{
	struct follow f;

	follow_init(&f);
	follow_start(&f, false);
	for (int i = 0; i < TURNS; i++)
		assert_false(follow_turn(&f, getpid(), 0));
	f.retry = f.looked = 0;
	assert_int_equal(follow_turn(&f, getpid(), 0), CPU_COUNT(&f.allowed) > 1);
}

/* It has not starved, so the next one is not kept waiting for longer. */
static void a_thread_that_gives_way_is_replaced_where_others_read(void **state)
{
	struct seen seen = {.client = getpid(), .reads = true};
	struct follow fresh;

	follow_init(&fresh);
	twin_run(follow_client, &seen);
	assert_true(seen.passed);
	assert_int_equal(seen.patience, fresh.patience);
}

static void a_plain_thread_stays_while_others_read(void **state)
{
	struct follow f;

	follow_init(&f);
	follow_start(&f, false);
	for (uint64_t readings = 1; readings <= TURNS; readings++) {
		f.retry = f.looked = 0;
		assert_false(follow_turn(&f, getpid(), readings));
	}
	assert_false(follow_turn(&f, getpid(), TURNS));
	f.retry = f.looked = 0;
	assert_int_equal(follow_turn(&f, getpid(), TURNS), CPU_COUNT(&f.allowed) > 1);
}

/* A look is due each time, and sees one client or the other. How many until the other thread shall take over; -1: it never shall. */
static int looks_until_passed(struct follow *f, const pid_t clients[2])
{
	for (int looks = 1; looks <= TURNS; looks++) {
		f->looked = 0;
		if (follow_turn(f, clients[looks % 2], 0))
			return looks;
	}
	return -1;
}

static void a_crowd_has_a_plain_thread_until_it_is_gone(void **state)
{
	pid_t two[2] = {getpid(), getppid()}, one[2] = {getpid(), getpid()};
	struct follow f;
	pid_t busy[CPU_SETSIZE + 1];
	int n = 0, alone, until_plain, in_crowd, until_gone;

	follow_init(&f);
	if (CPU_COUNT(&f.allowed) < 2)
		return; /* the plain one stays, whatever happens */
	while (n <= f.cpus && n <= CPU_SETSIZE)
		busy[n++] = start_busy(last_cpu());
	follow_start(&f, true);
	alone = looks_until_passed(&f, one);
	until_plain = looks_until_passed(&f, two);
	follow_start(&f, false);
	in_crowd = looks_until_passed(&f, two);
	while (n > 0)
		end(busy[--n]);
	assert_int_equal(alone, -1);
	assert_true(until_plain > 0 && until_plain <= FOLLOW_CROWD_MAX);
	assert_int_equal(in_crowd, -1);
	f.cpus = INT_MAX; /* what others do on this machine does not count */
	until_gone = looks_until_passed(&f, two);
	assert_true(until_gone >= FOLLOW_CROWD_MAX / 2 && until_gone <= FOLLOW_CROWD_MAX);
}

static enum twin_next count(void *arg, bool gives_way)
{
	struct seen *seen = arg;

	seen->turns[gives_way]++;
	seen->policies[gives_way] = sched_getscheduler(0);
	if (++seen->passes == TURNS)
		return TWIN_END;
	return seen->passes % 3 == 0 ? TWIN_PLAIN : TWIN_GIVING_WAY;
}

static void two_threads_take_turns_and_one_gives_way(void **state)
{
	struct seen seen = {0};

	twin_run(count, &seen);
	assert_int_equal(seen.passes, TURNS);
	assert_int_equal(seen.turns[false], TURNS / 3);
	assert_int_equal(seen.policies[false], SCHED_OTHER);
	assert_int_equal(seen.policies[true], SCHED_IDLE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_that_gives_way_goes_where_its_client_is),
		cmocka_unit_test(a_client_that_is_nowhere_moves_nobody),
		cmocka_unit_test(looks_are_rare),
		cmocka_unit_test(a_thread_that_starves_is_replaced),
		cmocka_unit_test(a_thread_that_starves_in_a_crowd_is_replaced_soon),
		cmocka_unit_test(a_thread_that_takes_over_is_bound_to_no_cpu),
		cmocka_unit_test(a_plain_thread_has_patience),
		cmocka_unit_test(a_thread_that_gives_way_is_replaced_where_others_read),
		cmocka_unit_test(a_plain_thread_stays_while_others_read),
		cmocka_unit_test(a_crowd_has_a_plain_thread_until_it_is_gone),
		cmocka_unit_test(two_threads_take_turns_and_one_gives_way),
	};

	return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}
