/*
 * unit_scratch: promises of scratch: a temporary directory is its maker's from the moment that it is answered.
 * Invariant: what sweeps in between does so at the one place where it can, between the making and the holding.
 * Called by meson test.
 */
#include "umlfs/scratch.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "unit.h"
#include "unit_place.h"

/* What happens to the next directories, once each: none, swept, held by a sweep that will. */
enum fate { STAYS, SWEPT, HELD };

static const enum fate *fates;
static unsigned int n_made;
static int sweeper = -1;

char *__real_mkdtemp(char *path);
char *__wrap_mkdtemp(char *path);

char *__wrap_mkdtemp(char *path)
{
	char *made = __real_mkdtemp(path);

	assert_non_null(made);
	if (fates[n_made] == SWEPT)
		assert_int_equal(rmdir(made), 0);
	if (fates[n_made] == HELD) {
		sweeper = open(made, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_int_equal(flock(sweeper, LOCK_EX | LOCK_NB), 0);
	}
	n_made++;
	return made;
}

static int setup(void **state)
{
	static const enum fate stays[] = {STAYS};
	struct place *p = calloc(1, sizeof(*p));

	fates = stays;
	n_made = 0;
	place_make(p);
	setenv("TMPDIR", p->path, 1);
	n_made = 0;
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	place_remove(*state);
	free(*state);
	return 0;
}

static int count(void *arg, const char *path)
{
	++*(unsigned int *)arg;
	return 0;
}

static unsigned int n_left(void)
{
	unsigned int n = 0;

	assert_int_equal(scratch_sweep("unit-scratch", count, &n), 0);
	return n;
}

static void one_that_is_swept_before_it_is_held_is_made_anew(void **state)
{
	static const enum fate what[] = {SWEPT, HELD, SWEPT, STAYS};
	struct place *p = *state;
	char *path;
	int hold;

	fates = what;
	assert_int_equal(scratch_make("unit-scratch", &p->log, &path, &hold), 0);
	assert_int_equal(n_made, ARRAY_LEN(what));
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(p->n_errors, 0);
	assert_int_equal(n_left(), 0); /* one is held by us, one by who sweeps */
	close(sweeper);
	assert_int_equal(n_left(), 1);
	assert_int_equal(scratch_remove(path, &p->log), 0);
	close(hold);
	free(path);
}

static void who_holds_or_keeps_one_has_it(void **state)
{
	static const enum fate what[] = {STAYS, STAYS};
	struct place *p = *state;
	char *held, *kept;
	int hold, hold_kept;

	fates = what;
	assert_int_equal(scratch_make("unit-scratch", &p->log, &held, &hold), 0);
	assert_int_equal(scratch_make("unit-scratch", &p->log, &kept, &hold_kept), 0);
	assert_int_equal(scratch_keep(kept, &p->log), 0);
	close(hold_kept);
	assert_int_equal(n_left(), 0);
	close(hold);
	assert_int_equal(n_left(), 1);
	free(held);
	free(kept);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(one_that_is_swept_before_it_is_held_is_made_anew),
		TEST(who_holds_or_keeps_one_has_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
