/*
 * unit_snapshot: promises of snapshot: states that one can go back to.
 * Invariant: each named state was dumped when it was named; going back must give that dump.
 * Called by meson test.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

static void fill_base(int basefd)
{
	place_put(basefd, "file", "base", 4);
	place_put(basefd, "other", "other base", 10);
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
	place_put(basefd, "dir/child", "child", 5);
	assert_int_equal(linkat(basefd, "file", basefd, "dir/hard", 0), 0);
}

static int setup(void **state)
{
	*state = world_new(fill_base);
	return 0;
}

static void change(struct world *w, unsigned int nr)
{
	char name[32], moved[32];
	const struct op ops[] = {
		{OP_MKFILE, name, NULL, 0, 0, 0},
		{OP_WRITE, name, NULL, nr, 10 * nr, 100},
		{OP_WRITE, "file", NULL, nr, nr, 8},
		{OP_CHMOD, "dir", NULL, 0700 + nr % 8, 0, 0},
		{OP_TRUNCATE, "other", NULL, 0, nr * 3, 0},
		{OP_RENAME, name, moved, 0, 0, 0},
		{OP_MKDIR, name, NULL, 0, 0, 0},
	};

	snprintf(name, sizeof(name), "dir/n%u", nr);
	snprintf(moved, sizeof(moved), "moved%u", nr);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		expect_status(op_tree(w, &ops[i]), 0, "change %u step %zu", nr, i);
}

/*
 * A tree of snapshots: a - b - c, and from a also d, from the base e:
 * each is made after a reset to its parent and a change.
 */
static const struct {
	const char *name, *parent;
} tree_of_states[] = {{"a", NULL}, {"b", "a"}, {"c", "b"}, {"d", "a"}, {"e", SNAPSHOT_BASE}, {"f", "d"}};

enum { STATES = ARRAY_LEN(tree_of_states) };

static void make_states(struct world *w, char *states[STATES + 1])
{
	states[STATES] = dump_world(w, DUMP_ALL);
	for (unsigned int i = 0; i < STATES; i++) {
		if (tree_of_states[i].parent)
			world_reset(w, tree_of_states[i].parent);
		change(w, i + 1);
		world_snapshot(w, tree_of_states[i].name);
		states[i] = dump_world(w, DUMP_ALL);
	}
}

static void expect_everywhere(struct world *w, const char *want, const char *when)
{
	dump_expect_world(w, DUMP_ALL, want, when);
	world_reopen(w);
	dump_expect_world(w, DUMP_ALL, want, when);
}

static unsigned int count_layers(struct world *w)
{
	DIR *dir = fdopendir(openat(w->place.fd, "session/layers", O_RDONLY | O_DIRECTORY));
	struct dirent *entry;
	unsigned int n = 0;

	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void every_snapshot_of_a_tree_can_be_gone_back_to(void **state)
{
	struct world *w = *state;
	char *states[STATES + 1];
	struct unit_random random = {3};

	make_states(w, states);
	for (unsigned int round = 0; round < 40; round++) {
		unsigned int nr = (unsigned int)unit_random(&random, STATES + 1);

		world_reset(w, nr == STATES ? SNAPSHOT_BASE : tree_of_states[nr].name);
		dump_expect_world(w, DUMP_ALL, states[nr], "after a reset");
		if (round % 3 == 0)
			expect_everywhere(w, states[nr], "reopened after a reset");
		if (round % 2)
			change(w, 10 + round);
		if (round % 4 == 1) {
			world_reset(w, NULL);
			dump_expect_world(w, DUMP_ALL, states[nr], "reset to where it stands");
		}
		assert_int_equal(count_layers(w), STATES + 1);
	}
	for (unsigned int i = 0; i <= STATES; i++)
		free(states[i]);
}

static void a_snapshot_changes_nothing_that_is_seen(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < 6; i++) {
		char name[8], *before;

		change(w, i);
		before = dump_world(w, DUMP_ALL);
		snprintf(name, sizeof(name), "s%u", i);
		world_snapshot(w, name);
		assert_int_equal(w->store->session.n_dirty, 0);
		expect_everywhere(w, before, "after a snapshot");
		free(before);
	}
}

static void deleting_a_snapshot_keeps_every_other_state(void **state)
{
	static const char *const order[] = {"b", "d", "a", "f", "e", "c"};
	struct world *w = *state;
	char *states[STATES + 1];
	char *now;

	make_states(w, states);
	world_reset(w, "c");
	change(w, 50);
	now = dump_world(w, DUMP_ALL);
	for (size_t i = 0; i < ARRAY_LEN(order); i++) {
		struct snapshot_change out;

		world_delete(w, order[i]);
		expect_everywhere(w, now, "after a delete");
		assert_int_equal(snapshot_reset(w->store, order[i], NULL, &out), -ENOENT);
		if (i == 1) {
			world_snapshot(w, "now");
			world_reset(w, "f"); /* its parent d has no name any more */
			dump_expect_world(w, DUMP_ALL, states[5], "the child of a deleted one");
			world_reset(w, "now");
			dump_expect_world(w, DUMP_ALL, now, "back again");
		}
	}
	world_delete(w, "now");
	expect_everywhere(w, now, "after the last delete");
	world_reset(w, NULL);
	dump_expect_world(w, DUMP_ALL, states[STATES], "nothing to stand on: the base");
	assert_int_equal(count_layers(w), 1);
	free(now);
	for (unsigned int i = 0; i <= STATES; i++)
		free(states[i]);
}

static void crash_and_open(struct world *w)
{
	world_crash(w);
	world_open(w);
}

static void numbers_are_never_used_twice(void **state)
{
	static const struct op make = {OP_MKFILE, "made", NULL, 0, 0, 0};
	struct world *w = *state;
	uint64_t last = 0;

	for (unsigned int round = 0; round < 24; round++) {
		uint64_t ino;

		assert_int_equal(op_tree(w, &make), 0);
		ino = world_ino(w, "made");
		assert_true(ino > last);
		last = ino;
		if (round % 5 == 4)
			assert_int_equal(tree_unlink(&w->tree, 1, "made"), 0);
		if (round % 3 == 1)
			crash_and_open(w);
		world_reset(w, SNAPSHOT_BASE);
		if (round % 4 == 2)
			crash_and_open(w);
	}
}

/* An open file without a name goes on over a snapshot, and the session can be opened after it. */
static void an_orphan_changed_after_a_snapshot_is_no_damage(void **state)
{
	static const struct tree_new nameless = {.mode = S_IFREG | 0600};
	struct world *w = *state;
	struct inode orphan, tmpfile, out;
	struct tree_change chmod_change = {.fields = INODE_MODE, .attr = {.mode = 0600}};
	uint64_t base = world_ino(w, "dir/child");
	char bytes[8];

	change(w, 1);
	orphan = world_inode(w, "moved1");
	tree_hold(&w->tree, orphan.ino);
	tree_hold(&w->tree, base);
	assert_int_equal(tree_unlink(&w->tree, 1, "moved1"), 0);
	assert_int_equal(tree_unlink(&w->tree, world_ino(w, "dir"), "child"), 0);
	assert_int_equal(tree_make_nameless(&w->tree, &nameless, &tmpfile), 0);
	tree_hold(&w->tree, tmpfile.ino);
	assert_int_equal(tree_write(&w->tree, tmpfile.ino, "temp", 4, 0), 4);
	world_snapshot(w, "s");
	assert_int_equal(tree_write(&w->tree, orphan.ino, "x", 1, 0), 1);
	assert_int_equal(tree_write(&w->tree, base, "x", 1, 0), 1);
	assert_int_equal(tree_setattr(&w->tree, orphan.ino, &chmod_change, &out), 0);
	assert_int_equal(tree_link(&w->tree, tmpfile.ino, 1, "named", &out), 0);
	tree_release(&w->tree, orphan.ino, 1);
	tree_release(&w->tree, base, 1);
	world_reopen(w);
	assert_int_equal(tree_read(&w->tree, world_ino(w, "named"), bytes, 8, 0), 4);
	assert_int_equal(world_inode(w, "named").nlink, 1);
	world_reset(w, "s");
	assert_int_equal(world_find(w, "named", &out), -ENOENT);
}

/* A file that is dead in a layer keeps nobody from joining that layer with the next. */
static void layers_without_names_are_joined(void **state)
{
	static const struct op ops[] = {
		{OP_MKFILE, "dead", NULL, 0, 0, 0},
		{OP_WRITE, "dead", NULL, 1, 0, 10},
		{OP_UNLINK, "dead", NULL, 0, 0, 0},
	};
	struct world *w = *state;
	char *want;

	for (unsigned int i = 0; i < 4; i++) {
		char name[2] = {(char)('a' + i), '\0'};

		for (size_t k = 0; k < ARRAY_LEN(ops); k++)
			assert_int_equal(op_tree(w, &ops[k]), 0);
		change(w, i);
		world_snapshot(w, name);
	}
	change(w, 9);
	want = dump_world(w, DUMP_ALL);
	world_delete(w, "a");
	world_delete(w, "c");
	expect_everywhere(w, want, "after two deletes");
	assert_int_equal(count_layers(w), 3);
	world_delete(w, "b");
	world_delete(w, "d");
	expect_everywhere(w, want, "after all deletes");
	assert_int_equal(count_layers(w), 1);
	free(want);
}

static void a_reset_gives_up_what_was_held(void **state)
{
	static const struct tree_new file = {.mode = S_IFREG | 0644};
	struct world *w = *state;
	uint64_t base = world_ino(w, "file");
	struct inode made, out;
	char bytes[8];

	assert_int_equal(tree_make(&w->tree, 1, "made", &file, &made), 0);
	assert_int_equal(tree_write(&w->tree, made.ino, "x", 1, 0), 1);
	assert_int_equal(tree_write(&w->tree, base, "changed", 7, 0), 7);
	tree_hold(&w->tree, made.ino);
	tree_hold(&w->tree, base);
	assert_int_equal(tree_unlink(&w->tree, 1, "file"), 0);
	world_reset(w, NULL);
	assert_int_equal(tree_getattr(&w->tree, made.ino, &out), -ESTALE);
	assert_int_equal(tree_read(&w->tree, made.ino, bytes, 8, 0), -ESTALE);
	assert_int_equal(tree_write(&w->tree, made.ino, "x", 1, 0), -ESTALE);
	assert_int_equal(tree_read(&w->tree, base, bytes, 8, 0), 4);
	assert_memory_equal(bytes, "base", 4);
	tree_release(&w->tree, made.ino, 1);
	tree_release(&w->tree, base, 1);
	assert_int_equal(world_inode(w, "file").nlink, 2);
}

static void names_are_checked_and_unique(void **state)
{
	static const char *const bad[] = {"", "-x", "@base", "@", "a/b", "a\nb", "\x7f"};
	struct world *w = *state;
	struct snapshot_change out;
	char longest[257];

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect_status(snapshot_create(w->store, bad[i], &w->place.log, &out), -EINVAL, "name \"%s\"", bad[i]);
	memset(longest, 'n', 256);
	longest[256] = '\0';
	assert_int_equal(snapshot_create(w->store, longest, &w->place.log, &out), -EINVAL);
	longest[255] = '\0';
	world_snapshot(w, longest);
	world_snapshot(w, "with space and % and \xff");
	world_reopen(w);
	assert_int_equal(snapshot_create(w->store, longest, &w->place.log, &out), -EEXIST);
	world_reset(w, "with space and % and \xff");
	world_delete(w, longest);
	assert_int_equal(snapshot_delete(w->store, longest, &w->place.log, &out), -ENOENT);
	assert_int_equal(snapshot_reset(w->store, "absent", &w->place.log, &out), -ENOENT);
}

/* Damage in the layer that is written can be got rid of by a reset of a session that nobody serves. */
static void a_reset_drops_a_damaged_layer(void **state)
{
	struct world *w = *state;
	struct store_options options = {.session = w->session, .log = &w->place.log, .max_files = 16};
	unsigned char *bytes;
	char *want;
	size_t len;

	change(w, 1);
	world_snapshot(w, "good");
	want = dump_world(w, DUMP_ALL);
	change(w, 2);
	world_close(w);
	bytes = place_get(w->place.fd, "session/layers/2/journal", &len);
	bytes[60] ^= 1;
	place_put(w->place.fd, "session/layers/2/journal", bytes, len);
	free(bytes);
	expect_status(world_try_open(w), -EUCLEAN, "a damaged layer");
	assert_int_equal(store_open(&options, &w->store), 0);
	tree_init(&w->tree, &w->store->session);
	world_reset(w, NULL);
	world_crash(w);
	world_open(w);
	dump_expect_world(w, DUMP_ALL, want, "after the reset");
	free(want);
	change(w, 3);
	world_reopen(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_snapshot_of_a_tree_can_be_gone_back_to),
		TEST(a_snapshot_changes_nothing_that_is_seen),
		TEST(deleting_a_snapshot_keeps_every_other_state),
		TEST(numbers_are_never_used_twice),
		TEST(an_orphan_changed_after_a_snapshot_is_no_damage),
		TEST(layers_without_names_are_joined),
		TEST(a_reset_gives_up_what_was_held),
		TEST(names_are_checked_and_unique),
		TEST(a_reset_drops_a_damaged_layer),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
