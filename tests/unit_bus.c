/*
 * unit_bus: promises of cmd_bus, for a journal that is cut short while it is replayed.
 * Invariant: the fault comes in a process of its own, which the test looks at from outside.
 * Called by meson test.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd_bus.h"
#include "unit.h"
#include "unit_op.h"

enum { FILES = 200, STATUS = 7 };

static const char journal[] = "session/layers/1/journal";

/* A session whose journal has several pages, and something that is in the making. */
static int setup(void **state)
{
	struct world *w = world_new(NULL);
	char name[16];

	for (unsigned int i = 0; i < FILES; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_int_equal(op_tree(w, &(struct op){OP_MKFILE, name, NULL, 0, 0, 0}), 0);
	}
	world_close(w);
	assert_int_equal(mkdirat(w->place.fd, "making", 0700), 0);
	place_put(w->place.fd, "making/file", "x", 1);
	*state = w;
	return 0;
}

static int cut(void *arg, uint64_t serial, const unsigned char *payload, size_t len)
{
	const struct world *w = arg;
	int fd = openat(w->place.fd, journal, O_WRONLY | O_CLOEXEC);

	return ftruncate(fd, 0) < 0 ? -errno : close(fd);
}

static int replay(struct world *w)
{
	int dirfd = openat(w->place.fd, "session/layers/1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct journal *j;
	int r = journal_open(dirfd, 1, false, "journal", NULL, &j);

	if (r == 0)
		r = journal_replay(j, 0, NULL, cut, w);
	return r;
}

/* In a child: what it wrote to standard error; answers its status as of wait(2). */
static int replay_in_child(struct world *w, const char *making, char *text, size_t size)
{
	int ends[2], status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		dup2(ends[1], STDERR_FILENO);
		cmd_catch_bus("this test", STATUS);
		cmd_bus_remove(making);
		replay(w);
		_exit(0);
	}
	close(ends[1]);
	while (len < size - 1 && (n = read(ends[0], text + len, size - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static void the_file_is_named_and_what_was_in_the_making_goes(void **state)
{
	struct world *w = *state;
	char text[1024], want[512], making[200];
	int status;

	snprintf(making, sizeof(making), "%s/making", w->place.path);
	status = replay_in_child(w, making, text, sizeof(text));
	snprintf(want, sizeof(want),
	         "umlfs: %s/%s: cut short or unreadable while in use: this test has ended; "
	         "`umlfs check` tells what is left\n",
	         w->place.path, journal);
	assert_string_equal(text, want);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == STATUS);
	assert_false(place_has(w->place.fd, "making"));
}

static void what_has_its_name_stays(void **state)
{
	struct world *w = *state;
	char text[1024];
	int status = replay_in_child(w, NULL, text, sizeof(text));

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == STATUS);
	assert_true(place_has(w->place.fd, "making/file"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_file_is_named_and_what_was_in_the_making_goes),
		TEST(what_has_its_name_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
