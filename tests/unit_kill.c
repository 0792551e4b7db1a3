/*
 * unit_kill: a session whose process is killed is in the state before or after the operation that it was
 * in.
 * Invariant: the child does a series that its seed fixes; the states between its operations were dumped
 * without a kill.
 * Called by meson test; UMLFS_KILL_RUNS and UMLFS_KILL_SEED choose.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

static void fill_base(int basefd)
{
	static unsigned char big[20000];

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 5);
	place_put(basefd, "file", "base", 4);
	place_put(basefd, "big", big, sizeof(big));
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
	place_put(basefd, "dir/child", "child", 5);
}

enum step_kind { STEP_OP, STEP_SNAPSHOT, STEP_RESET, STEP_DELETE };

struct step {
	enum step_kind kind;
	struct op op;
	const char *name;
};

/* No write or copy in place crosses a page's end: there the host may cut a call of a process that is killed. */
static const struct step steps[] = {
	{STEP_OP, {OP_MKDIR, "new", NULL, 0, 0, 0}, NULL},
	{STEP_OP, {OP_RENAME, "dir/child", "new/child", 0, 0, 0}, NULL},
	{STEP_OP, {OP_WRITE, "big", NULL, 1, 5000, 300}, NULL},
	{STEP_SNAPSHOT, {0}, "one"},
	{STEP_OP, {OP_WRITE, "big", NULL, 2, 100, 200}, NULL},
	{STEP_OP, {OP_TRUNCATE, "file", NULL, 0, 1, 0}, NULL},
	{STEP_OP, {OP_LINK, "file", "dir/hard", 0, 0, 0}, NULL},
	{STEP_OP, {OP_RENAME, "new", "dir", RENAME_EXCHANGE, 0, 0}, NULL},
	{STEP_SNAPSHOT, {0}, "two"},
	{STEP_OP, {OP_UNLINK, "big", NULL, 0, 0, 0}, NULL},
	{STEP_OP, {OP_MKFILE, "big", NULL, 0, 0, 0}, NULL},
	{STEP_OP, {OP_WRITE, "big", NULL, 3, 0, 4000}, NULL},
	{STEP_RESET, {0}, "one"},
	{STEP_OP, {OP_TRUNCATE, "big", NULL, 0, 50000, 0}, NULL},
	{STEP_OP, {OP_RENAME, "big", "file", 0, 0, 0}, NULL},
	{STEP_DELETE, {0}, "two"},
	{STEP_OP, {OP_MKFIFO, "fifo", NULL, 0, 0, 0}, NULL},
	{STEP_RESET, {0}, NULL},
	{STEP_OP, {OP_PUNCH, "big", NULL, 0, 0, 8192}, NULL},
	{STEP_OP, {OP_WRITE, "big", NULL, 4, 4096, 4096}, NULL},
	{STEP_OP, {OP_COPY, "big", "big", 16400, 8200, 3000}, NULL},
	{STEP_DELETE, {0}, "one"},
	{STEP_RESET, {0}, SNAPSHOT_BASE},
};

enum { STEPS = ARRAY_LEN(steps), RUNS = 200 };

static void do_step(struct world *w, const struct step *step)
{
	switch (step->kind) {
	case STEP_OP:
		expect_status(op_tree(w, &step->op), 0, "%s", step->op.a);
		break;
	case STEP_SNAPSHOT:
		world_snapshot(w, step->name);
		break;
	case STEP_RESET:
		world_reset(w, step->name);
		break;
	case STEP_DELETE:
		world_delete(w, step->name);
		break;
	}
}

struct run {
	struct world w;
	char *states[STEPS + 1];
	volatile unsigned int *done; /* shared with the child: steps that returned */
	long long whole;             /* nanoseconds that the series takes */
};

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int setup(void **state)
{
	struct run *run = calloc(1, sizeof(*run));

	world_make(&run->w, fill_base);
	run->done = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(run->done != MAP_FAILED);
	run->states[0] = dump_session(&run->w, DUMP_PLAIN);
	for (unsigned int i = 0; i < STEPS; i++) {
		long long start = now_ns();

		do_step(&run->w, &steps[i]);
		run->whole += now_ns() - start;
		run->states[i + 1] = dump_session(&run->w, DUMP_PLAIN);
	}
	world_close(&run->w);
	*state = run;
	return 0;
}

static int teardown(void **state)
{
	struct run *run = *state;

	for (unsigned int i = 0; i <= STEPS; i++)
		free(run->states[i]);
	munmap((void *)(uintptr_t)run->done, 4096);
	world_fini(&run->w);
	free(run);
	return 0;
}

static void child(struct run *run)
{
	struct world *w = &run->w;

	run->done[0] = 0;
	if (world_try_open(w) < 0)
		_exit(1);
	run->done[1] = 1; /* from here on there is something to kill */
	for (unsigned int i = 0; i < STEPS; i++) {
		do_step(w, &steps[i]);
		run->done[0] = i + 1;
	}
	_exit(0);
}

/* Waits for a moment of the child's life by looking at the clock: a kill is not to be slept for. */
static void kill_at(struct run *run, pid_t pid, long long after)
{
	long long end;
	int status;

	while (!run->done[1] && waitpid(pid, &status, WNOHANG) == 0)
		;
	end = now_ns() + after;
	while (now_ns() < end)
		;
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
}

static void expect_before_or_after(struct run *run, uint64_t seed)
{
	unsigned int done = run->done[0];
	char *got;

	place_forget_lines(&run->w.place);
	if (world_try_open(&run->w) < 0)
		fail_msg("seed %" PRIu64 ", killed after step %u: the session does not open:\n%s", seed, done,
		         run->w.place.lines);
	got = dump_session(&run->w, DUMP_PLAIN);
	if (strcmp(got, run->states[done]) != 0 && (done == STEPS || strcmp(got, run->states[done + 1]) != 0)) {
		print_error("seed %" PRIu64 ", killed after step %u\n", seed, done);
		dump_expect(got, run->states[done + (done < STEPS)], "neither before nor after");
	}
	free(got);
}

static void a_kill_leaves_the_state_before_or_after(void **state)
{
	struct run *run = *state;
	uint64_t first = unit_number("UMLFS_KILL_SEED", 1);
	uint64_t runs = unit_number("UMLFS_KILL_RUNS", RUNS);
	unsigned int seen[STEPS + 1] = {0}, n_seen = 0;

	for (uint64_t seed = first; seed < first + runs; seed++) {
		struct unit_random random = {seed};
		pid_t pid;

		assert_int_equal(io_remove_tree(run->w.place.fd, "session"), 0);
		run->done[1] = 0;
		fflush(NULL);
		pid = fork();
		assert_true(pid >= 0);
		if (pid == 0)
			child(run);
		kill_at(run, pid, (long long)unit_random(&random, (uint64_t)run->whole * 6 / 5));
		n_seen += seen[run->done[0]]++ == 0;
		expect_before_or_after(run, seed);
		world_crash(&run->w);
	}
	print_message("%" PRIu64 " kills from seed %" PRIu64 " hit %u of %u places\n", runs, first, n_seen, STEPS + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_kill_leaves_the_state_before_or_after),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
