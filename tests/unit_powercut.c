/*
 * unit_powercut: what is left when the host goes down: what was synced, and any part of the rest.
 * Invariant: every case starts from the same image of a session, as a process that died left it; then files are
 * taken back to what they were at the last sync, whole, in part or not at all, and the host has booted again.
 * Called by meson test.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "mark.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_image.h"

enum { BASE_BYTES = 5000 };

static void fill_base(int basefd)
{
	static unsigned char bytes[BASE_BYTES];

	memset(bytes, 'b', sizeof(bytes));
	place_put(basefd, "cut", bytes, sizeof(bytes));
	place_put(basefd, "grown", bytes, sizeof(bytes));
	place_put(basefd, "changed", bytes, sizeof(bytes));
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
}

static int setup(void **state)
{
	return image_start(state, fill_base);
}

/* The file's bytes; asking for more than there are must give no more. */
static size_t get(struct crashed *c, const char *path, char bytes[4 * BASE_BYTES])
{
	struct inode inode = world_inode(&c->w, path);
	ssize_t n = tree_read(&c->w.tree, inode.ino, bytes, (size_t)inode.size, 0);

	expect_status(n, (long)inode.size, "reading %s", path);
	return (size_t)n;
}

/* The file is `first` bytes of one letter, then the rest, up to len, of another. */
static bool is(struct crashed *c, const char *path, char a, size_t first, char b, size_t len)
{
	char bytes[4 * BASE_BYTES];

	if (get(c, path, bytes) != len)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (bytes[i] != (i < first ? a : b))
			return false;
	}
	return true;
}

/*
 * The journal is there, the bytes of files are not: fsync of one file makes the journal's records of all
 * others last.
 */
static void a_file_has_its_old_bytes_or_its_new_ones(void **state)
{
	struct crashed *c = *state;
	char paths[4][64];
	static const char *const names[] = {"cut", "grown", "changed", "new"};

	image_write(c, "changed", 'n', 1000, 0);
	image_write(c, "grown", 'n', BASE_BYTES, BASE_BYTES);
	expect_status(world_truncate(&c->w, world_ino(&c->w, "cut"), 3000), 0, "truncate");
	image_make(c, "new");
	image_write(c, "new", 'n', 4000, 0);
	for (unsigned int i = 0; i < 4; i++)
		image_content_path(c, names[i], paths[i]);
	for (int settled = 0; settled < 2; settled++) {
		if (settled)
			expect_status(session_settle(&c->w.store->session), 0, "settling");
		image_take(c);
		for (unsigned int i = 0; i < 4; i++) {
			size_t whole = image_length(c, paths[i]);

			for (long len = -1; len <= (long)whole; len += len < 2 || len + 251 > (long)whole ? 1 : 250) {
				char when[80];
				size_t there = len < 0 ? 0 : (size_t)len;
				bool right;

				image_put(c, true);
				if (len < 0)
					image_remove(c, paths[i]);
				else
					image_part(c, paths[i], there);
				snprintf(when, sizeof(when), "%s with %ld bytes, settled %d", names[i], len, settled);
				image_open_after_boot(c, when);
				if (i == 0)
					right = is(c, "cut", 'b', 0, 'b', there < 3000 ? BASE_BYTES : 3000);
				else if (i == 1)
					right = is(c, "grown", 'b', BASE_BYTES, 'n',
					           there < BASE_BYTES ? BASE_BYTES : there);
				else if (i == 2)
					right = is(c, "changed", 'n', there < BASE_BYTES ? 0 : 1000, 'b', BASE_BYTES);
				else
					right = is(c, "new", 'n', there, 'n', there);
				if (!right)
					fail_msg("%s: wrong bytes", when);
			}
		}
		image_put(c, false);
		world_open(&c->w);
	}
}

/* A file that was shortened after its copy was on disk is as long as it was synced, not as its base. */
static void what_fsync_promised_is_there(void **state)
{
	struct crashed *c = *state;
	char path[64], journal[] = "layers/1/journal";
	size_t synced;
	uint64_t ino = world_ino(&c->w, "cut");

	image_write(c, "cut", 'n', 10, 0);
	expect_status(world_truncate(&c->w, ino, 100), 0, "truncate");
	expect_status(tree_fsync(&c->w.tree, ino), 0, "fsync");
	assert_false(commit_pending(&c->w.store->session.commit));
	image_content_path(c, "cut", path);
	synced = (size_t)journal_size(stack_top(&c->w.store->session.stack)->journal);
	image_write(c, "cut", 'm', 400, 100);
	image_write(c, "grown", 'n', 10, 0);
	expect_status(session_settle(&c->w.store->session), 0, "settling");
	image_make(c, "new");
	image_take(c);
	for (size_t cut = synced; cut <= image_length(c, journal); cut++) {
		for (size_t there = 100; there <= 500; there += 200) {
			char bytes[4 * BASE_BYTES];
			char when[80];

			image_put(c, true);
			image_part(c, journal, cut);
			image_part(c, path, there);
			snprintf(when, sizeof(when), "journal of %zu bytes, content of %zu", cut, there);
			image_open_after_boot(c, when);
			assert_int_in_range(get(c, "cut", bytes), 100, there);
			if (bytes[0] != 'n' || bytes[10] != 'b' || (get(c, "cut", bytes) > 100 && bytes[100] != 'm'))
				fail_msg("%s: wrong bytes", when);
		}
	}
}

/* Makes the bytes zero, as a block that was not written reads; the place of the first that was not zero before. */
static size_t make_gap(struct crashed *c, size_t at)
{
	static const unsigned char zeros[12];
	unsigned char before[sizeof(zeros)] = {0};
	int fd = image_session_fd(c);
	int journal = openat(fd, "layers/1/journal", O_RDWR | O_CLOEXEC);
	size_t first = 0;

	assert_true(pread(journal, before, sizeof(before), (off_t)at) > 0);
	assert_int_equal(pwrite(journal, zeros, sizeof(zeros), (off_t)at), sizeof(zeros));
	close(journal);
	close(fd);
	while (first < sizeof(before) && before[first] == 0)
		first++;
	return at + first;
}

/* Pages of the journal come to the disk in any order: zeros between frames end it. */
static void a_gap_in_the_journal_ends_it(void **state)
{
	struct crashed *c = *state;
	char *states[5], name[8];
	size_t ends[5];

	for (unsigned int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		if (i > 0)
			image_make(c, name);
		states[i] = dump_world(&c->w, DUMP_ALL);
		ends[i] = (size_t)journal_size(stack_top(&c->w.store->session.stack)->journal);
	}
	image_take(c);
	for (size_t at = ends[1]; at < ends[4]; at++) {
		unsigned int whole = 1;
		size_t first;

		image_put(c, true);
		first = make_gap(c, at);
		while (whole < 4 && ends[whole + 1] <= first)
			whole++;
		image_open_after_boot(c, "gap");
		dump_expect_world(&c->w, DUMP_ALL, states[whole], "a gap in the journal");
	}
	for (unsigned int i = 0; i < 5; i++)
		free(states[i]);
}

static bool has_snapshot(struct crashed *c, const char *name)
{
	return manifest_snapshot(&c->w.store->session.manifest, name) != NULL;
}

static void expect_layers_of_the_manifest(struct crashed *c)
{
	DIR *dir = NULL;
	unsigned int n = 0;
	struct dirent *entry;

	assert_int_equal(io_open_dir(c->w.store->session.layersfd, ".", &dir), 0);
	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	assert_int_equal(n, c->w.store->session.manifest.n_layers);
}

/* What a power cut may leave of the manifest that was replaced last. */
static const struct {
	const char *what;
	long cut; /* -1: whole; -2: the old one is back */
} manifests[] = {{"new", -1}, {"old", -2}, {"empty", 0}, {"cut", 100}};

static void put_manifest(struct crashed *c, unsigned int nr)
{
	if (manifests[nr].cut >= 0)
		image_part(c, "manifest", (size_t)manifests[nr].cut);
	if (manifests[nr].cut == -2) {
		int fd = image_session_fd(c);

		assert_int_equal(unlinkat(fd, "manifest", 0), 0);
		assert_int_equal(linkat(fd, "manifest.old", fd, "manifest", 0), 0);
		close(fd);
	}
}

static void a_snapshot_not_yet_on_disk_is_whole_or_absent(void **state)
{
	struct crashed *c = *state;
	struct snapshot_change change;
	char *before, content[64], when[80];
	size_t synced, whole;

	image_write(c, "cut", 's', BASE_BYTES, 0);
	world_snapshot(&c->w, "first");
	image_make(c, "synced");
	expect_status(tree_fsync(&c->w.tree, 1), 0, "fsync");
	synced = (size_t)journal_size(stack_top(&c->w.store->session.stack)->journal);
	image_write(c, "changed", 'n', 1000, 0);
	image_make(c, "last");
	image_content_path(c, "changed", content);
	assert_int_equal(snapshot_create(c->w.store, "second", &c->w.place.log, &change), 0);
	before = dump_world(&c->w, DUMP_ALL);
	image_make(c, "after");
	image_take(c);
	assert_true(image_has(c, "manifest.old"));
	whole = image_length(c, "layers/2/journal");
	for (unsigned int nr = 0; nr < ARRAY_LEN(manifests); nr++) {
		for (size_t cut = synced; cut <= whole; cut += cut + 13 < whole && nr ? 13 : 1) {
			for (int bytes = 0; bytes < 2; bytes++) {
				image_put(c, true);
				put_manifest(c, nr);
				image_part(c, "layers/2/journal", cut);
				image_part(c, "layers/3/journal", JOURNAL_HEADER_BYTES);
				image_part(c, content, bytes ? BASE_BYTES : 70);
				snprintf(when, sizeof(when), "%s manifest, journal of %zu bytes, content %d",
				         manifests[nr].what, cut, bytes);
				image_open_after_boot(c, when);
				expect_layers_of_the_manifest(c);
				assert_true(has_snapshot(c, "first"));
				world_ino(&c->w, "synced");
				assert_true(is(c, "cut", 's', BASE_BYTES, 's', BASE_BYTES));
				if (has_snapshot(c, "second") != (nr == 0 && cut == whole && bytes))
					fail_msg("%s: the snapshot is %s", when, nr == 0 ? "lost" : "there");
				if (has_snapshot(c, "second"))
					dump_expect_world(&c->w, DUMP_ALL, before, when);
				else if (!is(c, "changed", 'b', 0, 'b', BASE_BYTES))
					assert_true(bytes && is(c, "changed", 'n', 1000, 'b', BASE_BYTES));
			}
		}
	}
	free(before);
}

static void a_reset_not_yet_on_disk_is_whole_or_absent(void **state)
{
	struct crashed *c = *state;
	struct snapshot_change change;
	char *before, *after, when[80];

	image_write(c, "cut", 's', 100, 0);
	world_snapshot(&c->w, "first");
	after = dump_world(&c->w, DUMP_ALL);
	image_write(c, "changed", 'n', 1000, 0);
	image_make(c, "new");
	expect_status(session_settle(&c->w.store->session), 0, "settling");
	before = dump_world(&c->w, DUMP_ALL);
	assert_int_equal(snapshot_reset(c->w.store, "first", &c->w.place.log, &change), 0);
	assert_true(image_has(c, "layers/2/journal"));
	world_crash(&c->w);
	image_take(c);
	for (unsigned int nr = 0; nr < ARRAY_LEN(manifests); nr++) {
		for (long header = -1; header <= JOURNAL_HEADER_BYTES; header++) {
			bool done = nr == 0 && header == JOURNAL_HEADER_BYTES;

			image_put(c, true);
			put_manifest(c, nr);
			if (header < 0)
				image_remove(c, "layers/3/journal");
			else
				image_part(c, "layers/3/journal", (size_t)header);
			snprintf(when, sizeof(when), "%s manifest, new journal of %ld bytes", manifests[nr].what,
			         header);
			image_open_after_boot(c, when);
			dump_expect_world(&c->w, DUMP_ALL, done ? after : before, when);
			expect_layers_of_the_manifest(c);
		}
	}
	/* The reset's rest, which the process did not come to. */
	for (unsigned int i = 0; i < change.n_gone; i++)
		layer_free(change.gone[i]);
	free(change.gone);
	free(change.come);
	free(change.dropped);
	free(before);
	free(after);
}

static void a_new_session_that_never_came_to_the_disk_is_made_again(void **state)
{
	struct crashed *c = *state;
	char *fresh = dump_world(&c->w, DUMP_ALL);

	image_take(c);
	image_put(c, true);
	image_part(c, "manifest", 0);
	image_part(c, "layers/1/journal", 0);
	world_open(&c->w);
	dump_expect_world(&c->w, DUMP_ALL, fresh, "made again");
	world_crash(&c->w);
	image_put(c, false);
	world_open(&c->w);
	image_make(c, "new");
	image_take(c);
	image_put(c, true);
	image_part(c, "manifest", 0);
	assert_int_equal(world_try_open(&c->w), -EUCLEAN);
	free(fresh);
}

/* Nobody but the host going down can lose bytes: else it is damage, and one file's alone. */
static void without_a_power_cut_a_short_file_is_damage(void **state)
{
	struct crashed *c = *state;
	char path[64], byte;
	uint64_t ino = world_ino(&c->w, "changed");

	image_write(c, "changed", 'n', 1000, 0);
	image_content_path(c, "changed", path);
	for (int settled = 0; settled < 2; settled++) {
		if (settled)
			expect_status(session_settle(&c->w.store->session), 0, "settling");
		image_take(c);
		for (int missing = 0; missing < 2; missing++) {
			image_put(c, false);
			if (missing)
				image_remove(c, path);
			else
				image_part(c, path, BASE_BYTES - 1);
			world_open(&c->w);
			expect_status(tree_read(&c->w.tree, ino, &byte, 1, 0), -EIO, "missing %d", missing);
			expect_status(tree_write(&c->w.tree, ino, "x", 1, 0), -EIO, "missing %d", missing);
			assert_non_null(strstr(c->w.place.lines, path));
			assert_int_equal(tree_read(&c->w.tree, world_ino(&c->w, "grown"), &byte, 1, 0), 1);
		}
		image_put(c, false);
		world_open(&c->w);
	}
}

static void a_copy_without_its_record_is_swept(void **state)
{
	struct crashed *c = *state;
	char kept[64], swept[64];
	int fd;

	image_write(c, "changed", 'n', 1000, 0);
	image_content_path(c, "changed", kept);
	image_content_path(c, "grown", swept);
	image_take(c);
	for (int booted = 0; booted < 2; booted++) {
		image_put(c, booted);
		fd = image_session_fd(c);
		if (!booted)
			mark_set(fd);
		place_put(fd, swept, "half", 4);
		close(fd);
		world_open(&c->w);
		assert_false(image_has(c, swept));
		assert_true(image_has(c, kept));
		assert_true(is(c, "changed", 'n', 1000, 'b', BASE_BYTES));
		assert_true(is(c, "grown", 'b', 0, 'b', BASE_BYTES));
	}
}

/* Layers that a power cut may still bring back are deleted when nothing can. */
static void a_dropped_layer_stays_until_the_reset_is_on_disk(void **state)
{
	struct crashed *c = *state;
	struct session *s = &c->w.store->session;
	struct snapshot_change first, second;

	image_make(c, "new");
	expect_status(session_sync(s), 0, "sync");
	assert_int_equal(snapshot_reset(c->w.store, NULL, &c->w.place.log, &first), 0);
	assert_true(image_has(c, "manifest.old"));
	assert_int_equal(snapshot_create(c->w.store, "name", &c->w.place.log, &second), 0);
	assert_int_equal(snapshot_clean_up(s, &first), 0);
	assert_true(image_has(c, "layers/1/journal"));
	assert_true(image_has(c, "manifest.old"));
	assert_int_equal(snapshot_clean_up(s, &second), 0);
	assert_false(image_has(c, "layers/1/journal"));
	assert_false(image_has(c, "manifest.old"));
}

/* What is written on a snapshot that is not on disk yet would go with it. */
static void fsync_takes_the_snapshot_below_along(void **state)
{
	struct crashed *c = *state;
	struct snapshot_change change;

	image_make(c, "new");
	assert_int_equal(snapshot_create(c->w.store, "name", &c->w.place.log, &change), 0);
	assert_true(commit_pending(&c->w.store->session.commit));
	image_write(c, "new", 'n', 10, 0);
	expect_status(tree_fsync(&c->w.tree, world_ino(&c->w, "new")), 0, "fsync");
	assert_false(commit_pending(&c->w.store->session.commit));
	assert_false(image_has(c, "manifest.old"));
	assert_int_equal(snapshot_clean_up(&c->w.store->session, &change), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, image_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_file_has_its_old_bytes_or_its_new_ones),
		TEST(what_fsync_promised_is_there),
		TEST(a_gap_in_the_journal_ends_it),
		TEST(a_snapshot_not_yet_on_disk_is_whole_or_absent),
		TEST(a_reset_not_yet_on_disk_is_whole_or_absent),
		TEST(a_new_session_that_never_came_to_the_disk_is_made_again),
		TEST(a_copy_without_its_record_is_swept),
		TEST(a_dropped_layer_stays_until_the_reset_is_on_disk),
		TEST(fsync_takes_the_snapshot_below_along),
		TEST(without_a_power_cut_a_short_file_is_damage),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
