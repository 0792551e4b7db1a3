/*
 * unit_dir: promises of tree_readdir.
 * Invariant: a walk is resumed by cookie after every few entries, as getdents64(2) makes the kernel do.
 * Called by meson test.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"
#include "unit_op.h"
#include "unit_world.h"

enum { BASE_FILES = 40, NAMES = 400 };

static void fill_base(int basefd)
{
	char name[32];

	assert_int_equal(mkdirat(basefd, "d", 0755), 0);
	for (unsigned int i = 0; i < BASE_FILES; i++) {
		snprintf(name, sizeof(name), "d/%u", i);
		place_put(basefd, name, "x", 1);
	}
}

static int setup(void **state)
{
	*state = world_new(fill_base);
	return 0;
}

static void change(struct world *w, enum op_kind kind, unsigned int nr)
{
	char path[32];
	struct op op = {kind, path, NULL, 0, 0, 0};

	snprintf(path, sizeof(path), "d/%u", nr);
	expect_status(op_tree(w, &op), 0, "%s", path);
}

/* A walk that takes so many entries at a time; seen counts how often each number came. */
struct walk {
	unsigned int room, left;
	uint64_t cookie;
	unsigned int n, dots;
	unsigned int seen[NAMES];
};

static int take(void *arg, const struct stack_entry *entry)
{
	struct walk *walk = arg;
	char name[32];

	if (walk->left == 0)
		return 1;
	walk->left--;
	assert_true(entry->cookie > walk->cookie);
	walk->cookie = entry->cookie;
	walk->n++;
	if (entry->name[0] == '.') {
		walk->dots++;
		return 0;
	}
	snprintf(name, sizeof(name), "%.*s", (int)entry->name_len, entry->name);
	walk->seen[strtoul(name, NULL, 10)]++;
	return 0;
}

/* One getdents64(2): true when something came. */
static bool go_on(struct world *w, uint64_t dir, struct walk *walk)
{
	unsigned int before = walk->n;

	walk->left = walk->room;
	expect_status(tree_readdir(&w->tree, dir, walk->cookie, take, walk), 0, "readdir");
	return walk->n > before;
}

static void expect_all(struct world *w, const bool there[NAMES], const char *when)
{
	uint64_t dir = world_ino(w, "d");

	for (unsigned int room = 1; room < 100; room = room * 3 + 1) {
		struct walk walk = {.room = room};

		while (go_on(w, dir, &walk))
			;
		assert_int_equal(walk.dots, 2);
		for (unsigned int i = 0; i < NAMES; i++) {
			if (walk.seen[i] != there[i])
				fail_msg("%s, %u at a time: name %u came %u times", when, room, i, walk.seen[i]);
		}
	}
}

/* Random names come and go over base and several layers; every walk gives each once. */
static void listings_are_unique_and_complete_over_all_layers(void **state)
{
	struct world *w = *state;
	struct unit_random random = {7};
	bool there[NAMES] = {false};
	char name[16];

	for (unsigned int i = 0; i < BASE_FILES; i++)
		there[i] = true;
	expect_all(w, there, "the base");
	for (unsigned int round = 0; round < 8; round++) {
		for (unsigned int i = 0; i < 60; i++) {
			unsigned int nr = (unsigned int)unit_random(&random, NAMES / 4 * (round / 2 + 1));

			change(w, there[nr] ? OP_UNLINK : OP_MKFILE, nr);
			there[nr] = !there[nr];
		}
		expect_all(w, there, "after a round of changes");
		if (round % 2) {
			snprintf(name, sizeof(name), "s%u", round);
			world_snapshot(w, name);
			expect_all(w, there, "after a snapshot");
		} else {
			world_reopen(w);
			expect_all(w, there, "after a reopen");
		}
	}
}

/* rm -r in its simplest form: entries are removed while they are listed. */
static void cookies_stay_valid_when_entries_go_during_a_walk(void **state)
{
	struct world *w = *state;
	uint64_t dir = world_ino(w, "d");
	struct walk walk = {.room = 3};
	unsigned int removed[NAMES] = {0}, wanted = BASE_FILES;
	bool first_in_top = true;

	for (unsigned int i = 100; i < 160; i++)
		change(w, OP_MKFILE, i);
	world_snapshot(w, "one");
	for (unsigned int i = 160; i < 200; i++)
		change(w, OP_MKFILE, i);
	wanted += 100;
	while (go_on(w, dir, &walk)) {
		for (unsigned int i = 0; i < NAMES; i++) {
			if (walk.seen[i] && !removed[i]) {
				change(w, OP_UNLINK, i);
				removed[i] = 1;
				wanted--;
			}
		}
		if (walk.seen[160] && first_in_top) {
			first_in_top = false;
			change(w, OP_UNLINK, 199); /* not seen yet: it may not come any more */
			removed[199] = 1;
			wanted--;
		}
	}
	assert_int_equal(wanted, 0);
	assert_int_equal(walk.seen[199], 0);
	for (unsigned int i = 0; i < NAMES; i++)
		assert_true(walk.seen[i] <= 1);
	assert_int_equal(tree_dir_empty(&w->tree, dir), 0);
	assert_int_equal(tree_rmdir(&w->tree, 1, "d"), 0);
}

/* Half of a layer's entries go while they are listed, so that it closes the gaps. */
static void a_walk_goes_on_when_a_layer_closes_its_gaps(void **state)
{
	struct world *w = *state;
	uint64_t dir = world_ino(w, "d");
	struct walk walk = {.room = 5};
	bool removed[NAMES] = {false};

	for (unsigned int i = 100; i < NAMES; i++)
		change(w, OP_MKFILE, i);
	while (go_on(w, dir, &walk)) {
		for (unsigned int i = 100; i < NAMES; i++) {
			if (walk.seen[i] && !removed[i])
				change(w, OP_UNLINK, i);
			removed[i] = walk.seen[i];
		}
	}
	for (unsigned int i = 100; i < NAMES; i++)
		assert_int_equal(walk.seen[i], 1);
}

static void what_is_there_all_the_time_is_not_missed(void **state)
{
	struct world *w = *state;
	uint64_t dir = world_ino(w, "d");
	struct walk walk = {.room = 2};
	unsigned int next = 300;

	for (unsigned int i = 100; i < 150; i++)
		change(w, OP_MKFILE, i);
	while (go_on(w, dir, &walk) && next < NAMES) {
		change(w, OP_MKFILE, next++); /* new ones may come or not */
		if (next % 2)
			change(w, OP_UNLINK, next - 200); /* of 100 .. 150 */
		if (next - 200 >= 148)
			break;
	}
	while (go_on(w, dir, &walk))
		;
	for (unsigned int i = 0; i < BASE_FILES; i++)
		assert_int_equal(walk.seen[i], 1);
	for (unsigned int i = 100; i < 150; i += 2)
		assert_int_equal(walk.seen[i], 1);
	for (unsigned int i = 0; i < NAMES; i++)
		assert_true(walk.seen[i] <= 1);
}

static void a_cookie_means_the_same_after_a_reopen_and_a_snapshot(void **state)
{
	struct world *w = *state;
	struct walk walk = {.room = 7};

	for (unsigned int i = 100; i < 120; i++)
		change(w, OP_MKFILE, i);
	for (unsigned int step = 0; go_on(w, world_ino(w, "d"), &walk); step++) {
		if (step == 3 || step == 7)
			world_reopen(w);
		if (step == 5)
			world_snapshot(w, "in between");
	}
	assert_int_equal(walk.n, BASE_FILES + 20 + 2);
	for (unsigned int i = 0; i < NAMES; i++)
		assert_true(walk.seen[i] <= 1);
}

static void directories_that_cannot_be_listed_say_so(void **state)
{
	struct world *w = *state;
	struct walk walk = {.room = 9, .left = 9};
	uint64_t dir = world_ino(w, "d");

	assert_int_equal(tree_readdir(&w->tree, world_ino(w, "d/1"), 0, take, &walk), -ENOTDIR);
	assert_int_equal(tree_readdir(&w->tree, 12345, 0, take, &walk), -ESTALE);
	assert_int_equal(tree_dir_empty(&w->tree, dir), -ENOTEMPTY);
	for (unsigned int i = 0; i < BASE_FILES; i++)
		change(w, OP_UNLINK, i);
	tree_hold(&w->tree, dir);
	assert_int_equal(tree_rmdir(&w->tree, 1, "d"), 0);
	assert_int_equal(tree_readdir(&w->tree, dir, 0, take, &walk), 0);
	assert_int_equal(walk.n, 0); /* a removed directory has no entries, not even "." */
	tree_release(&w->tree, dir, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(listings_are_unique_and_complete_over_all_layers),
		TEST(cookies_stay_valid_when_entries_go_during_a_walk),
		TEST(a_walk_goes_on_when_a_layer_closes_its_gaps),
		TEST(what_is_there_all_the_time_is_not_missed),
		TEST(a_cookie_means_the_same_after_a_reopen_and_a_snapshot),
		TEST(directories_that_cannot_be_listed_say_so),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
