/*
 * unit_store: promises of store: what is a session, what may become one, and whose base it is.
 * Invariant: a refusal leaves the directory as it was.
 * Called by meson test.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"
#include "io.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

static int setup(void **state)
{
	*state = world_new(NULL);
	return 0;
}

static const struct op make_dir = {OP_MKDIR, "made", NULL, 0, 0, 0};
static const struct op make_file = {OP_MKFILE, "file2", NULL, 0, 0, 0};
static const struct op write_file = {OP_WRITE, "file2", NULL, 1, 0, 100};

/* A manifest that is gone takes no layer with it, however little or much is in the session. */
static void a_missing_manifest_is_refused_and_nothing_removed(void **state)
{
	for (unsigned int kind = 0; kind < 5; kind++) {
		struct world *w = *state;
		char *before, *after;
		char session[200];

		world_close(w);
		assert_int_equal(io_remove_tree(w->place.fd, "session"), 0);
		world_open(w);
		for (unsigned int i = 0; i < kind; i++)
			world_reset(w, NULL); /* the layer's number grows */
		if (kind == 1)
			world_snapshot(w, "s");
		assert_int_equal(op_tree(w, kind % 2 ? &make_file : &make_dir), 0);
		if (kind % 2)
			assert_int_equal(op_tree(w, &write_file), 0);
		world_close(w);
		assert_int_equal(unlinkat(w->place.fd, "session/manifest", 0), 0);
		snprintf(session, sizeof(session), "%s/session", w->place.path);
		before = dump_host(session);
		place_forget_lines(&w->place);
		expect_status(world_try_open(w), -EUCLEAN, "kind %u", kind);
		assert_non_null(strstr(w->place.lines, "/session/manifest: missing"));
		after = dump_host(session);
		dump_expect(after, before, "a session without its manifest");
		free(after);
		free(before);
	}
}

/* What a process that dies while it makes a session can leave behind, from the first step to the last. */
static void an_interrupted_creation_is_taken_up_again(void **state)
{
	static const char *const dirs[] = {"session/layers", "session/layers/1", "session/layers/1/content",
	                                   "session/rootfs"};
	struct world *w = *state;
	size_t len;
	unsigned char *journal;

	world_close(w);
	journal = place_get(w->place.fd, "session/layers/1/journal", &len);
	for (unsigned int steps = 0; steps <= 9; steps++) {
		assert_int_equal(io_remove_tree(w->place.fd, "session"), 0);
		assert_int_equal(mkdirat(w->place.fd, "session", 0700), 0);
		if (steps >= 1)
			place_put(w->place.fd, "session/lock", "1\n", 2);
		if (steps >= 2)
			place_put(w->place.fd, "session/base.index.new", "half", 4);
		if (steps >= 3)
			place_put(w->place.fd, "session/base.index", "whole?", 6);
		for (unsigned int i = 0; i < ARRAY_LEN(dirs) && steps >= 4 + i; i++)
			assert_int_equal(mkdirat(w->place.fd, dirs[i], 0700), 0);
		if (steps >= 8)
			place_put(w->place.fd, "session/layers/1/journal", journal, steps == 8 ? 10 : len);
		if (steps >= 9)
			place_put(w->place.fd, "session/manifest.new", "umlfs", 5);
		world_open(w);
		assert_int_equal(op_tree(w, &make_dir), 0);
		world_reopen(w);
		world_ino(w, "made");
		world_close(w);
	}
	free(journal);
}

static void a_directory_with_other_files_is_no_session(void **state)
{
	struct world *w = *state;

	world_close(w);
	assert_int_equal(io_remove_tree(w->place.fd, "session"), 0);
	assert_int_equal(mkdirat(w->place.fd, "session", 0700), 0);
	place_put(w->place.fd, "session/thesis.txt", "my only copy", 12);
	expect_status(world_try_open(w), -ENOTEMPTY, "a directory with a file");
	assert_true(place_has(w->place.fd, "session/thesis.txt"));
	assert_false(place_has(w->place.fd, "session/layers"));
}

static void one_at_a_time_has_the_session(void **state)
{
	struct world *w = *state;
	struct store_options options = {.session = w->session, .base = w->base, .log = &w->place.log, .max_files = 4};
	struct store *second;
	char pid[32];

	snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	assert_int_equal(store_open(&options, &second), -EBUSY);
	assert_non_null(strstr(w->place.lines, pid));
	options.base = NULL;
	assert_int_equal(store_open(&options, &second), -EBUSY);
	world_reopen(w);
}

static void another_base_is_refused_and_its_difference_named(void **state)
{
	struct world *w = *state;
	int base = open(w->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *want = dump_world(w, DUMP_ALL);

	world_close(w);
	place_put(base, "more", "x", 1);
	place_forget_lines(&w->place);
	expect_status(world_try_open(w), -ESTALE, "a base that grew");
	assert_non_null(strstr(w->place.lines, "  more: it is new\n"));
	assert_false(place_has(w->place.fd, "session/base.index.new"));
	assert_int_equal(unlinkat(base, "more", 0), 0);
	place_put(base, "file", "base", 4);
	place_forget_lines(&w->place);
	expect_status(world_try_open(w), -ESTALE, "a base that was written to");
	assert_non_null(strstr(w->place.lines, "  file: modified since\n"));
	close(base);
	free(want);
}

static void a_session_opens_without_its_base_for_reading_metadata(void **state)
{
	struct world *w = *state;
	struct store_options options = {.session = w->session, .log = &w->place.log, .max_files = 4};
	struct inode inode;

	assert_int_equal(op_tree(w, &make_dir), 0);
	world_close(w);
	assert_int_equal(renameat(w->place.fd, "base", w->place.fd, "gone"), 0);
	expect_status(world_try_open(w), -ENOENT, "no base");
	assert_int_equal(store_open(&options, &w->store), 0);
	assert_int_equal(store_load(w->store), 0);
	tree_init(&w->tree, &w->store->session);
	assert_int_equal(world_find(w, "made", &inode), 0);
	assert_int_equal(world_find(w, "file", &inode), 0);
	assert_int_equal(inode.size, 4);
	world_crash(w);
}

static void what_is_missing_is_named(void **state)
{
	struct world *w = *state;
	struct store_options options = {.session = w->session, .log = &w->place.log, .max_files = 4};
	struct store *store;
	char inside[200];

	world_close(w);
	assert_int_equal(io_remove_tree(w->place.fd, "session"), 0);
	assert_int_equal(store_open(&options, &store), -ENOENT);
	assert_false(place_has(w->place.fd, "session"));
	assert_int_equal(mkdirat(w->place.fd, "session", 0700), 0);
	assert_int_equal(store_open(&options, &store), -ENOENT);
	assert_non_null(strstr(w->place.lines, "/session: is no session"));
	assert_int_equal(io_remove_tree(w->place.fd, "session"), 0);
	snprintf(inside, sizeof(inside), "%s/session", w->base);
	options = (struct store_options){.session = inside, .base = w->base, .log = &w->place.log, .max_files = 4};
	expect_status(store_open(&options, &store), -EINVAL, "a session in its base");
	assert_false(place_has(w->place.fd, "base/session"));
	options =
		(struct store_options){.session = w->session, .base = w->session, .log = &w->place.log, .max_files = 4};
	expect_status(store_open(&options, &store), -EINVAL, "a session that is its base");
	assert_false(place_has(w->place.fd, "session"));
}

static void layers_that_nothing_stands_on_are_removed_at_the_next_open(void **state)
{
	struct world *w = *state;

	world_snapshot(w, "s");
	world_close(w);
	assert_int_equal(mkdirat(w->place.fd, "session/layers/7", 0700), 0);
	assert_int_equal(mkdirat(w->place.fd, "session/layers/7/content", 0700), 0);
	place_put(w->place.fd, "session/layers/7/content/9", "x", 1);
	world_open(w);
	assert_false(place_has(w->place.fd, "session/layers/7"));
	assert_true(place_has(w->place.fd, "session/layers/1"));
	assert_true(place_has(w->place.fd, "session/layers/2"));
}

/* The manifest with other numbers to go on from. */
static void set_next(struct world *w, uint64_t ino, uint32_t layer)
{
	int fd = openat(w->place.fd, "session", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct manifest m;

	assert_int_equal(manifest_read(fd, "session/manifest", &w->place.log, &m), 0);
	m.next_ino = ino ? ino : m.next_ino;
	m.next_layer = layer ? layer : m.next_layer;
	assert_int_equal(manifest_write(fd, &m), 0);
	manifest_fini(&m);
	close(fd);
}

static void numbers_have_an_end_before_they_wrap(void **state)
{
	struct world *w = *state;
	struct snapshot_change change;

	world_close(w);
	set_next(w, FORMAT_NUMBERS_END - 1, 0);
	world_open(w);
	assert_int_equal(op_tree(w, &make_dir), 0);
	assert_int_equal(op_tree(w, &(struct op){OP_MKDIR, "more", NULL, 0, 0, 0}), -ENOSPC);
	world_snapshot(w, "s");
	world_close(w);
	set_next(w, 0, FORMAT_LAYERS_END - 1);
	world_open(w);
	world_snapshot(w, "last");
	assert_int_equal(snapshot_create(w->store, "more", &w->place.log, &change), -ENOSPC);
	assert_int_equal(snapshot_reset(w->store, "s", &w->place.log, &change), -ENOSPC);
	world_reopen(w);
	assert_int_equal(op_tree(w, &make_dir), -EEXIST);
}

static void numbers_of_the_base_are_not_given_again(void **state)
{
	struct world *w = *state;
	uint64_t file = world_ino(w, "file");

	world_close(w);
	set_next(w, file, 0);
	world_open(w);
	assert_int_equal(op_tree(w, &make_dir), 0);
	assert_true(world_ino(w, "made") > file);
	assert_int_equal(world_ino(w, "file"), file);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_missing_manifest_is_refused_and_nothing_removed),
		TEST(an_interrupted_creation_is_taken_up_again),
		TEST(a_directory_with_other_files_is_no_session),
		TEST(one_at_a_time_has_the_session),
		TEST(another_base_is_refused_and_its_difference_named),
		TEST(a_session_opens_without_its_base_for_reading_metadata),
		TEST(what_is_missing_is_named),
		TEST(layers_that_nothing_stands_on_are_removed_at_the_next_open),
		TEST(numbers_have_an_end_before_they_wrap),
		TEST(numbers_of_the_base_are_not_given_again),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
