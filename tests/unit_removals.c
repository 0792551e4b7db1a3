/*
 * unit_removals: promises of removals.
 * Invariant: each file of the place is one that a test has put there and told to remove, or not.
 * Called by meson test.
 */
#include "removals.h"

#include <inttypes.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "unit.h"
#include "unit_place.h"

enum { MANY = 2000, LAYER = 7 };

static bool fails; /* the next sync */

/* In place of libc's. */
int fdatasync(int fd)
{
	if (fails) {
		fails = false;
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

struct world {
	struct place place;
	struct removals *removals;
};

static void put(const struct world *w, uint64_t ino)
{
	char path[64];

	snprintf(path, sizeof(path), "%d/content/%" PRIu64, LAYER, ino);
	place_put(w->place.fd, path, "x", 1);
}

static bool has(const struct world *w, uint64_t ino)
{
	char path[64];

	snprintf(path, sizeof(path), "%d/content/%" PRIu64, LAYER, ino);
	return place_has(w->place.fd, path);
}

static int start(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	place_make(&w->place);
	assert_int_equal(mkdirat(w->place.fd, "7", 0700), 0);
	assert_int_equal(mkdirat(w->place.fd, "7/content", 0700), 0);
	assert_int_equal(removals_new(w->place.fd, &w->removals), 0);
	*state = w;
	return 0;
}

static int end(void **state)
{
	struct world *w = *state;

	removals_free(w->removals);
	place_remove(&w->place);
	free(w);
	return 0;
}

static void who_waits_finds_all_gone_and_nothing_else(void **state)
{
	struct world *w = *state;

	for (uint64_t ino = 1; ino <= 100; ino++)
		put(w, ino);
	assert_false(removals_wait(w->removals));
	for (uint64_t ino = 1; ino <= 99; ino++)
		assert_true(removals_add(w->removals, LAYER, ino, 0));
	assert_true(removals_wait(w->removals));
	for (uint64_t ino = 1; ino <= 99; ino++)
		assert_false(has(w, ino));
	assert_true(has(w, 100));
	assert_false(removals_wait(w->removals));
}

static void what_stands_on_records_that_were_lost_stays(void **state)
{
	struct world *w = *state;

	place_put(w->place.fd, "7/journal", "records", 7);
	for (uint64_t ino = 1; ino <= 3; ino++) {
		put(w, ino);
		fails = ino == 2;
		assert_true(removals_add(w->removals, LAYER, ino, ino));
		assert_true(removals_wait(w->removals));
		assert_int_equal(has(w, ino), ino > 1);
	}
	assert_true(removals_add(w->removals, LAYER, 2, 0));
	assert_true(removals_wait(w->removals));
	assert_false(has(w, 2));
}

static void what_is_gathered_goes_when_it_is_pushed(void **state)
{
	struct world *w = *state;
	struct pollfd ended = {.fd = removals_fd(w->removals), .events = POLLIN};

	put(w, 1);
	assert_int_equal(removals_due(w->removals), -1);
	assert_true(removals_add(w->removals, LAYER, 1, 0));
	assert_int_in_range(removals_due(w->removals), 0, 10);
	removals_push(w->removals);
	assert_int_equal(removals_due(w->removals), -1);
	assert_int_equal(poll(&ended, 1, -1), 1);
	removals_ready(w->removals);
	assert_false(has(w, 1));
	assert_false(removals_wait(w->removals));
}

static void what_is_gathered_is_due_soon_though_more_comes(void **state)
{
	struct world *w = *state;
	int last = 10, due;

	assert_true(removals_add(w->removals, LAYER, 1, 0));
	while ((due = removals_due(w->removals)) != 0) {
		assert_int_in_range(due, 1, last);
		if (due < last)
			assert_true(removals_add(w->removals, LAYER, 1, 0));
		last = due;
	}
	assert_true(removals_wait(w->removals));
}

/* How many are taken before none is, when nobody asks what has ended. */
static unsigned int add_until_refused(const struct world *w)
{
	unsigned int n = 0;

	while (n < MANY && removals_add(w->removals, LAYER, n + 1, 0))
		n++;
	return n;
}

static void more_are_refused_than_may_wait_until_some_have_ended(void **state)
{
	struct world *w = *state;
	unsigned int n;

	for (uint64_t ino = 1; ino <= MANY; ino++)
		put(w, ino);
	n = add_until_refused(w);
	assert_int_in_range(n, 64, MANY - 1);
	assert_false(removals_add(w->removals, LAYER, n + 1, 0));
	assert_true(removals_wait(w->removals));
	for (uint64_t ino = 1; ino <= MANY; ino++)
		assert_int_equal(has(w, ino), ino > n);
	assert_true(removals_add(w->removals, LAYER, n + 1, 0));
}

static void the_end_waits_for_all(void **state)
{
	struct world *w = *state;

	for (uint64_t ino = 1; ino <= 70; ino++) {
		put(w, ino);
		assert_true(removals_add(w->removals, LAYER, ino, 0));
	}
	removals_free(w->removals);
	w->removals = NULL;
	for (uint64_t ino = 1; ino <= 70; ino++)
		assert_false(has(w, ino));
}

static void what_is_not_there_is_no_error(void **state)
{
	struct world *w = *state;

	put(w, 2);
	assert_true(removals_add(w->removals, LAYER, 1, 0));
	put(w, 3);
	assert_true(removals_add(w->removals, LAYER + 1, 3, 0));
	assert_true(removals_add(w->removals, LAYER, 2, 0));
	assert_true(removals_wait(w->removals));
	assert_false(has(w, 2));
	assert_true(has(w, 3)); /* of this layer */
}

static void what_waits_for_records_stays_where_they_cannot_be_synced(void **state)
{
	struct world *w = *state;

	put(w, 1);
	put(w, 2);
	assert_true(removals_add(w->removals, LAYER, 1, 100)); /* there is no journal */
	assert_true(removals_wait(w->removals));
	assert_true(has(w, 1));
	place_put(w->place.fd, "7/journal", "x", 1);
	assert_true(removals_add(w->removals, LAYER, 2, 100));
	assert_true(removals_wait(w->removals));
	assert_false(has(w, 2));
}

static void of_those_none_is_refused(void **state)
{
	struct world *w = *state;

	place_put(w->place.fd, "7/journal", "x", 1);
	for (uint64_t ino = 1; ino <= 3 * MANY; ino++) {
		put(w, ino);
		assert_true(removals_add(w->removals, LAYER, ino, ino));
	}
	removals_wait(w->removals);
	for (uint64_t ino = 1; ino <= 3 * MANY; ino++)
		assert_false(has(w, ino));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(who_waits_finds_all_gone_and_nothing_else, start, end),
		cmocka_unit_test_setup_teardown(what_stands_on_records_that_were_lost_stays, start, end),
		cmocka_unit_test_setup_teardown(what_is_gathered_goes_when_it_is_pushed, start, end),
		cmocka_unit_test_setup_teardown(what_is_gathered_is_due_soon_though_more_comes, start, end),
		cmocka_unit_test_setup_teardown(more_are_refused_than_may_wait_until_some_have_ended, start, end),
		cmocka_unit_test_setup_teardown(the_end_waits_for_all, start, end),
		cmocka_unit_test_setup_teardown(what_is_not_there_is_no_error, start, end),
		cmocka_unit_test_setup_teardown(what_waits_for_records_stays_where_they_cannot_be_synced, start, end),
		cmocka_unit_test_setup_teardown(of_those_none_is_refused, start, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
