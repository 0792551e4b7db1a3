/*
 * unit_later: promises of what is taken out of the tree for other threads: tree_fetch, tree_flush, and the crew that does it.
 * Invariant: whatever happens between taking out and doing, bytes are old or new ones of the same file, and no descriptor
 * stays open.
 * Called by meson test.
 */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "crew.h"
#include "unit.h"
#include "unit_op.h"

enum { LEN = 3 * WORLD_COPY_UNIT + 100, MANY = 300 };

static char bytes[2 * LEN];

static void fill_base(int basefd)
{
	char name[16];

	memset(bytes, 'b', sizeof(bytes));
	place_put(basefd, "file", bytes, LEN);
	place_put(basefd, "small", bytes, 100);
	place_put(basefd, "empty", "", 0);
	assert_int_equal(mkdirat(basefd, "many", 0755), 0);
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		place_put(basefd, name, "m", 1);
	}
}

static int setup(void **state)
{
	*state = world_new(fill_base);
	return 0;
}

/* Another one, for the next case of a test. */
static struct world *anew(void **state)
{
	world_teardown(state);
	setup(state);
	return *state;
}

static unsigned int descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void put(struct world *w, uint64_t ino, char letter, size_t len, uint64_t offset)
{
	memset(bytes, letter, len);
	expect_status(tree_write(&w->tree, ino, bytes, len, offset), (long)len, "writing %c", letter);
}

/* What happens between taking a read out and doing it. */
struct meanwhile {
	const char *what;
	void (*happens)(struct world *w, uint64_t ino);
	const char *may; /* letters of the bytes that are read; 0: and the file may end early */
};

static void nothing(struct world *w, uint64_t ino)
{
}

static void overwrite(struct world *w, uint64_t ino)
{
	put(w, ino, 'n', LEN, 0);
}

static void cut(struct world *w, uint64_t ino)
{
	assert_int_equal(world_truncate(w, ino, 10), 0);
}

static void cut_and_grow(struct world *w, uint64_t ino)
{
	assert_int_equal(world_truncate(w, ino, 0), 0);
	put(w, ino, 'n', LEN, 0);
}

static void punch(struct world *w, uint64_t ino)
{
	expect_status(tree_fallocate(&w->tree, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, LEN), 0, "punching");
}

static void take_away(struct world *w, uint64_t ino)
{
	assert_int_equal(tree_unlink(&w->tree, 1, "file"), 0);
	tree_release(&w->tree, ino, 1);
}

static void replace(struct world *w, uint64_t ino)
{
	const struct tree_new what = {.mode = S_IFREG | 0600};
	struct inode inode;

	take_away(w, ino);
	assert_int_equal(tree_make(&w->tree, 1, "file", &what, &inode), 0);
	put(w, inode.ino, 'x', LEN, 0);
}

static void reset(struct world *w, uint64_t ino)
{
	world_reset(w, NULL);
}

static void reset_and_overwrite(struct world *w, uint64_t ino)
{
	world_reset(w, NULL);
	put(w, ino, 'x', LEN, 0);
}

static void take_snapshot(struct world *w, uint64_t ino)
{
	world_snapshot(w, "taken");
}

static void take_snapshot_and_overwrite(struct world *w, uint64_t ino)
{
	world_snapshot(w, "taken");
	put(w, ino, 'x', LEN, 0);
}

/* So many other files that no descriptor of this one is kept. */
static void use_others(struct world *w, uint64_t ino)
{
	char name[16], byte;

	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		expect_status(tree_read(&w->tree, world_ino(w, name), &byte, 1, 0), 1, "reading %s", name);
	}
}

/* The file lies below; in the top layer; there in part. */
static void lies_below(struct world *w, uint64_t ino)
{
}

static void lies_on_top(struct world *w, uint64_t ino)
{
	put(w, ino, 'o', LEN, 0);
}

static void lies_in_parts(struct world *w, uint64_t ino)
{
	put(w, ino, 'o', 10, WORLD_COPY_UNIT + 5);
}

static void lies_in_three_layers(struct world *w, uint64_t ino)
{
	lies_in_parts(w, ino);
	world_snapshot(w, "between");
	put(w, ino, 'o', WORLD_COPY_UNIT, 0);
}

static void fetch_meanwhile(void **state, void (*lies)(struct world *w, uint64_t ino), const struct meanwhile *m)
{
	static char got[2 * LEN];
	struct world *w = *state;
	struct tree_fetch f;
	unsigned int before;
	uint64_t ino;
	ssize_t n;

	world_teardown(state);
	setup(state);
	w = *state;
	ino = world_ino(w, "file");
	assert_int_equal(tree_hold(&w->tree, ino), 0);
	lies(w, ino);
	before = descriptors();
	expect_status(tree_fetch_init(&w->tree, ino, sizeof(got), 0, &f), 0, "%s", m->what);
	assert_true(descriptors() > before);
	m->happens(w, ino);
	before = descriptors() - f.n_files;
	n = tree_fetch_run(&f, got);
	tree_fetch_fini(&f);
	assert_int_equal(descriptors(), before);
	if (!strchr(m->may, '<') && n != LEN)
		fail_msg("%s: %zd bytes", m->what, n);
	assert_int_in_range(n, 0, LEN);
	for (ssize_t i = 0; i < n; i++) {
		if (!strchr(m->may, got[i] ? got[i] : '0'))
			fail_msg("%s: byte %zd is %c", m->what, i, got[i]);
	}
}

static void a_fetch_gives_bytes_of_its_file(void **state)
{
	static void (*const places[])(struct world * w, uint64_t ino) = {lies_below, lies_on_top, lies_in_parts,
	                                                                 lies_in_three_layers};
	static const struct meanwhile all[] = {
		{"nothing", nothing, "bo"},
		{"overwritten", overwrite, "bon"},
		{"cut", cut, "bo<"},
		{"cut and grown", cut_and_grow, "bon<0"},
		{"punched", punch, "bo0"},
		{"removed", take_away, "bo"},
		{"replaced", replace, "bo"},
		{"reset", reset, "bo"},
		{"reset and overwritten", reset_and_overwrite, "bo"},
		{"snapshot", take_snapshot, "bo"},
		{"snapshot, overwritten", take_snapshot_and_overwrite, "bo"},
		{"others used", use_others, "bo"},
	};

	for (size_t i = 0; i < ARRAY_LEN(places); i++) {
		for (size_t j = 0; j < ARRAY_LEN(all); j++)
			fetch_meanwhile(state, places[i], &all[j]);
	}
}

static void a_fetch_reads_what_tree_read_reads(void **state)
{
	static char want[LEN + 10], got[LEN + 10];
	struct world *w = *state;
	uint64_t ino = world_ino(w, "file");

	lies_in_three_layers(w, ino);
	for (uint64_t at = 0; at < LEN; at += 501) {
		for (size_t len = 1; len < sizeof(want); len += 3001) {
			ssize_t n = tree_read(&w->tree, ino, want, len, at);
			struct tree_fetch f;

			expect_status(tree_fetch_init(&w->tree, ino, len, at, &f), 0, "fetch");
			expect_status(tree_fetch_run(&f, got), n, "%zu bytes at %llu", len, (unsigned long long)at);
			assert_memory_equal(got, want, (size_t)n);
			tree_fetch_fini(&f);
			memset(w->tree.streams, 0, sizeof(w->tree.streams));
			memset(got, 0, sizeof(got));
			if (tree_read_now(&w->tree, ino, got, len, at) != -EAGAIN)
				assert_memory_equal(got, want, (size_t)n);
			expect_status(tree_read_now(&w->tree, ino, got, len, at + LEN), 0, "behind the end");
		}
	}
}

static void a_fetch_of_no_file_is_refused(void **state)
{
	struct world *w = *state;
	unsigned int before = descriptors();
	struct tree_fetch f;

	expect_status(tree_fetch_init(&w->tree, 1, 10, 0, &f), -EISDIR, "a directory");
	expect_status(tree_fetch_init(&w->tree, 1 << 20, 10, 0, &f), -ESTALE, "a number that is none");
	expect_status(tree_fetch_init(&w->tree, world_ino(w, "empty"), 10, 0, &f), 0, "an empty file");
	expect_status(tree_fetch_run(&f, bytes), 0, "an empty file");
	tree_fetch_fini(&f);
	expect_status(tree_read_now(&w->tree, 1, bytes, 10, 0), -EISDIR, "a directory");
	assert_true(descriptors() <= before + 1); /* the empty file's own may be kept */
}

/* A file of too many pieces, or layers, is left to the loop; nothing of the attempt stays. */
static void a_fetch_of_too_much_is_refused(void **state)
{
	struct world *w = *state;
	uint64_t ino = world_ino(w, "file");
	unsigned int before;
	struct tree_fetch f;
	char name[16];

	for (int i = 0; i <= TREE_FETCH_FILES; i++) {
		put(w, ino, 'o', 1, (uint64_t)i % 3 * WORLD_COPY_UNIT + (uint64_t)i);
		snprintf(name, sizeof(name), "n%d", i);
		world_snapshot(w, name);
	}
	expect_status(tree_read(&w->tree, ino, bytes, LEN, 0), LEN, "reading");
	before = descriptors();
	expect_status(tree_fetch_init(&w->tree, ino, LEN, 0, &f), 0, "three layers have it");
	tree_fetch_fini(&f);
	assert_int_equal(descriptors(), before);
}

/* The manifest is on disk afterwards, and so is what the file had, however the layers changed meanwhile. */
static void a_flush_is_of_the_layers_that_are_there(void **state)
{
	static void (*const changes[])(struct world * w, uint64_t ino) = {nothing, take_snapshot, reset,
	                                                                  take_snapshot_and_overwrite};

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		unsigned int before;
		struct tree_flush f;
		struct world *w;
		uint64_t ino;

		w = anew(state);
		ino = world_ino(w, "small");
		assert_int_equal(tree_hold(&w->tree, ino), 0);
		put(w, ino, 'n', 100, 0);
		before = descriptors();
		expect_status(tree_flush_init(&w->tree, ino, &f), 0, "flush");
		assert_int_equal(descriptors(), before + 2);
		changes[i](w, ino);
		expect_status(tree_flush_content(&f), 0, "change %zu: content", i);
		expect_status(tree_flush_records(&f), 0, "change %zu: records", i);
		assert_false(commit_pending(&w->store->session.commit));
		before = descriptors();
		tree_flush_fini(&f);
		assert_int_equal(descriptors(), before - 2);
	}
}

/* What comes between the two syncs of a flush, and whether the parts can be told then. */
static const struct {
	void (*change)(struct world *w, uint64_t ino);
	int told;
} between[] = {{nothing, 0}, {overwrite, -EAGAIN}, {take_snapshot, -EAGAIN}, {reset, -EAGAIN}};

/* New parts are told to be on disk, once, and only when they are those that were synced. */
static void a_flush_tells_the_parts_that_it_synced(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(between); i++) {
		struct tree_flush f;
		struct world *w;
		uint64_t ino;

		w = anew(state);
		ino = world_ino(w, "file");
		lies_in_parts(w, ino);
		expect_status(tree_flush_init(&w->tree, ino, &f), 0, "case %zu", i);
		assert_true(f.parts > 0);
		expect_status(tree_flush_content(&f), 0, "case %zu: content", i);
		between[i].change(w, ino);
		expect_status(tree_flush_tell(&w->tree, &f), between[i].told, "case %zu: telling", i);
		expect_status(tree_flush_records(&f), 0, "case %zu: records", i);
		tree_flush_fini(&f);
		expect_status(tree_flush_init(&w->tree, ino, &f), 0, "case %zu: again", i);
		assert_int_equal(f.parts > 0, between[i].change == overwrite);
		tree_flush_fini(&f);
	}
}

/* A task that ends when another one lets it. */
struct waits {
	struct task task;
	int *on, *ended; /* pipes */
};

static void wait_for_byte(struct task *task, void *buffer)
{
	struct waits *w = (struct waits *)task;

	if (read(w->on[0], buffer, 1) == 1)
		assert_int_equal(write(w->ended[1], buffer, 1), 1);
}

static void give_byte(struct task *task, void *buffer)
{
	struct waits *w = (struct waits *)task;

	if (write(w->on[1], "x", 1) == 1)
		assert_int_equal(write(w->ended[1], "x", 1), 1);
}

static void make_pipes(int on[2], int ended[2])
{
	assert_int_equal(pipe(on), 0);
	assert_int_equal(pipe(ended), 0);
}

static void close_pipes(const int on[2], const int ended[2])
{
	for (int i = 0; i < 2; i++) {
		close(on[i]);
		close(ended[i]);
	}
}

static void a_task_that_waits_stops_no_other(void **state)
{
	struct waits tasks[4];
	struct crew *crew;
	int on[2], ended[2];
	char byte;

	make_pipes(on, ended);
	assert_int_equal(crew_new(2, 16, 100, &crew), 0);
	for (int i = 0; i < 4; i++) {
		tasks[i] = (struct waits){.task.run = i % 2 ? give_byte : wait_for_byte, .on = on, .ended = ended};
		assert_true(crew_give(crew, &tasks[i].task));
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(read(ended[0], &byte, 1), 1);
	crew_free(crew);
	close_pipes(on, ended);
}

static void a_crew_takes_no_more_than_it_may_hold(void **state)
{
	static const unsigned int files[] = {3, 3, 1}; /* of 5 */
	struct waits tasks[3];
	struct crew *crew;
	int on[2], ended[2];
	char two[2];

	make_pipes(on, ended);
	assert_int_equal(crew_new(4, 16, 5, &crew), 0);
	for (int i = 0; i < 3; i++) {
		tasks[i] = (struct waits){.task = {.run = wait_for_byte, .files = files[i]}, .on = on, .ended = ended};
		assert_int_equal(crew_give(crew, &tasks[i].task), i != 1);
	}
	assert_int_equal(write(on[1], "xx", 2), 2);
	crew_free(crew); /* what was taken is done, also after the end is known */
	assert_int_equal(read(ended[0], two, 2), 2);
	close_pipes(on, ended);
	crew_free(NULL);
}

static void expect_place(struct world *w, uint64_t ino, const struct tree_place *place, size_t len, uint64_t offset)
{
	static char want[2 * LEN], got[2 * LEN];

	expect_status(tree_read(&w->tree, ino, want, len, offset), (long)place->len, "reading %zu at %llu", len,
	              (unsigned long long)offset);
	assert_int_equal(pread(place->fd, got, place->len, (off_t)offset), place->len);
	assert_memory_equal(got, want, place->len);
}

/* Whoever sends bytes straight from a content file sends what a read would have given. */
static void a_place_has_what_tree_read_reads(void **state)
{
	struct world *w = *state;
	uint64_t ino = world_ino(w, "file");
	unsigned int found = 0, not_found = 0;
	struct unit_random random = {.state = 3};
	struct tree_place place;
	struct tree_fetch fetch;

	assert_int_equal(tree_place(&w->tree, ino, LEN, 0, &place),
	                 0); /* nobody knows yet whether this host can tell */
	assert_int_equal(tree_read_now(&w->tree, ino, bytes, LEN, 0), LEN);
	if (tree_place(&w->tree, ino, LEN, 0, &place) == 0) {
		print_message("this host cannot tell what it has in memory: Linux 6.5 can\n");
		skip();
	}
	assert_int_equal(tree_place(&w->tree, ino, 2 * LEN, 0, &place), 1);
	assert_int_equal(place.len, LEN);
	assert_int_equal(tree_place(&w->tree, ino, LEN, LEN, &place), 0);
	assert_int_equal(tree_place(&w->tree, world_ino(w, "many"), LEN, 0, &place), -EISDIR);
	for (unsigned int round = 0; round < 400; round++) {
		uint64_t offset = unit_random(&random, LEN);
		size_t len = (size_t)unit_random(&random, LEN) + 1;

		if (round % 20 == 0)
			put(w, ino, (char)('A' + round / 20), 500, unit_random(&random, 2 * LEN - 500));
		tree_read_now(&w->tree, ino, bytes, 1, offset);
		if (tree_place(&w->tree, ino, len, offset, &place) == 1) {
			expect_place(w, ino, &place, len, offset);
			found++;
		} else {
			not_found++;
		}
	}
	assert_true(found > 50 && not_found > 50);
	/* Where another thread reads, the next bytes are another thread's too. */
	assert_int_equal(tree_fetch_init(&w->tree, ino, 10, 0, &fetch), 0);
	tree_fetch_fini(&fetch);
	assert_int_equal(tree_place(&w->tree, ino, 10, 10, &place), -EAGAIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_fetch_gives_bytes_of_its_file, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_fetch_reads_what_tree_read_reads, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_place_has_what_tree_read_reads, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_fetch_of_no_file_is_refused, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_fetch_of_too_much_is_refused, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_flush_is_of_the_layers_that_are_there, setup, world_teardown),
		cmocka_unit_test_setup_teardown(a_flush_tells_the_parts_that_it_synced, setup, world_teardown),
		cmocka_unit_test(a_task_that_waits_stops_no_other),
		cmocka_unit_test(a_crew_takes_no_more_than_it_may_hold),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
