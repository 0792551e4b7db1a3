/*
 * unit_circle: promises of what walks a whole state: it ends, and says why, where directories lie in themselves.
 * Invariant: every journal has valid checksums, so nothing but the sense of it can be wrong.
 * Called by meson test.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "umlfs/base_commit.h"
#include "umlfs/diff.h"
#include "umlfs/export.h"
#include "unit.h"
#include "unit_op.h"

enum { PATIENCE = 60 /* seconds */ };

static int setup(void **state)
{
	static const struct op ops[] = {
		{OP_MKDIR, "a", NULL, 0, 0, 0},
		{OP_MKDIR, "a/b", NULL, 0, 0, 0},
	};
	struct world *w = world_new(NULL);

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		assert_int_equal(op_tree(w, &ops[i]), 0);
	*state = w;
	return 0;
}

static void set_entry(struct world *w, uint64_t parent, const char *name, uint64_t ino)
{
	struct record *record = &w->store->session.record;

	record_start(record);
	record_entry(record, parent, name, strlen(name), ino);
	expect_status(session_apply(&w->store->session), 0, "a crafted record");
}

/* As the walk from the root comes to it. */
static void reachable(struct world *w)
{
	set_entry(w, world_ino(w, "a/b"), "c", world_ino(w, "a"));
}

/* As one comes to it only from an inode whose path is asked for. */
static void lost(struct world *w)
{
	reachable(w);
	set_entry(w, 1, "a", 0);
}

/* Every circle has one entrance more than it may: this one lies before it. */
static void entered_below(struct world *w)
{
	uint64_t b = world_ino(w, "a/b");

	lost(w);
	set_entry(w, 1, "b", b);
}

static void with_the_root(struct world *w)
{
	set_entry(w, world_ino(w, "a/b"), "c", 1);
}

/* No circle, but twice as many paths with each level. */
static void two_names_on_each_level(struct world *w)
{
	uint64_t dir = world_ino(w, "a/b");

	for (unsigned int i = 0; i < 60; i++) {
		static const struct tree_new made = {.mode = S_IFDIR | 0755};
		struct inode below;

		expect_status(tree_make(&w->tree, dir, "one", &made, &below), 0, "mkdir");
		set_entry(w, dir, "other", below.ino);
		dir = below.ino;
	}
}

static int run_export(struct world *w, bool layer)
{
	struct export_options options = {.source = w->session, .layer = layer, .log = &w->place.log};
	struct export_result result;
	char file[200];

	snprintf(file, sizeof(file), "%s/out.tar", w->place.path);
	options.file = file;
	return export_run(&options, &result);
}

static int export_all(struct world *w)
{
	return run_export(w, false);
}

static int export_changes(struct world *w)
{
	return run_export(w, true);
}

static int commit(struct world *w)
{
	struct base_commit_options options = {.source = w->session, .log = &w->place.log};
	struct import_result result;
	char base[200];

	snprintf(base, sizeof(base), "%s/made", w->place.path);
	options.base = base;
	return base_commit_run(&options, &result);
}

static int ignore(void *arg, const struct diff_change *change)
{
	return 0;
}

static int diff(struct world *w)
{
	struct diff_options options = {.session = w->session, .log = &w->place.log, .change = ignore};

	return diff_run(&options);
}

/* Which directories the line may name: those of the circle. */
static void expect_damage(struct world *w, int (*run)(struct world *w), const char *what)
{
	char says[400];

	place_forget_lines(&w->place);
	alarm(PATIENCE);
	expect_status(run(w), -EUCLEAN, "%s: %s", what, w->place.lines);
	alarm(0);
	snprintf(says, sizeof(says), "%s: damaged: run `umlfs check`: directory ", w->session);
	if (w->place.n_errors != 1 || strncmp(w->place.lines, says, strlen(says)) != 0)
		fail_msg("%s says\n%s", what, w->place.lines);
}

static void walks_from_the_root_end_where_a_directory_comes_again(void **state)
{
	static void (*const damages[])(struct world * w) = {reachable, entered_below, with_the_root,
	                                                    two_names_on_each_level};

	for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
		struct world *w = *state;

		damages[i](w);
		world_close(w);
		expect_damage(w, export_all, "export");
		expect_damage(w, commit, "commit");
		assert_false(place_has(w->place.fd, "out.tar"));
		assert_false(place_has(w->place.fd, "made"));
		world_teardown(state);
		setup(state);
	}
}

static void a_path_is_not_sought_round_a_circle(void **state)
{
	struct world *w = *state;

	lost(w);
	world_close(w);
	expect_damage(w, diff, "diff");
	expect_damage(w, export_changes, "export --diff");
}

/* The mark that finds it comes to lie in the circle later than the search begins. */
static void nor_up_a_long_way_into_one(void **state)
{
	static const struct tree_new made = {.mode = S_IFDIR | 0755};
	struct world *w = *state;
	uint64_t dir = world_ino(w, "a/b");

	for (unsigned int i = 0; i < 100; i++) {
		struct inode below;

		expect_status(tree_make(&w->tree, dir, "below", &made, &below), 0, "mkdir");
		dir = below.ino;
	}
	lost(w);
	world_close(w);
	expect_damage(w, diff, "diff");
}

/* Whatever name of a circle's directory is met first. */
static void a_diff_with_a_circle_that_has_a_path_ends(void **state)
{
	struct world *w = *state;
	int r;

	reachable(w);
	world_close(w);
	alarm(PATIENCE);
	r = diff(w);
	alarm(0);
	assert_true(r == 0 || r == -EUCLEAN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(walks_from_the_root_end_where_a_directory_comes_again),
		TEST(a_path_is_not_sought_round_a_circle),
		TEST(nor_up_a_long_way_into_one),
		TEST(a_diff_with_a_circle_that_has_a_path_ends),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
