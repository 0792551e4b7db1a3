/*
 * unit_file: promises of tree_file: bytes, and when they are copied up.
 * Invariant: what a file must hold is kept in a plain buffer or in a host file beside it.
 * Called by meson test.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

/* Less under valgrind, which takes minutes to read such files. */
#define GIB unit_number("UMLFS_UNIT_GIB", UINT64_C(1) << 30)

enum { BIG = 300000 };

static unsigned char big[BIG];

static void fill_base(int basefd)
{
	int fd;

	for (size_t i = 0; i < BIG; i++)
		big[i] = (unsigned char)(i * 31 + i / 4096);
	place_put(basefd, "file", "base", 4);
	place_put(basefd, "big", big, BIG);
	place_put(basefd, "empty", "", 0);
	place_put(basefd, "gone", "will change", 11);
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
	assert_int_equal(linkat(basefd, "big", basefd, "dir/hard", 0), 0);
	assert_int_equal(mknodat(basefd, "fifo", S_IFIFO | 0600, 0), 0);
	fd = openat(basefd, "sparse", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(pwrite(fd, "end", 3, (off_t)(5 * GIB)), 3);
	assert_int_equal(pwrite(fd, "middle", 6, (off_t)(2 * GIB)), 6);
	close(fd);
}

static int setup(void **state)
{
	*state = world_new(fill_base);
	return 0;
}

static void expect_bytes(struct world *w, uint64_t ino, const void *want, size_t len)
{
	unsigned char *got = malloc(len + 1);

	expect_status(tree_read(&w->tree, ino, got, len + 1, 0), (long)len, "reading inode %llu",
	              (unsigned long long)ino);
	assert_memory_equal(got, want, len);
	free(got);
}

static void nothing_but_a_write_copies_up(void **state)
{
	static const struct op ops[] = {
		{OP_CHMOD, "big", NULL, 0600, 0, 0},  {OP_CHOWN, "big", NULL, 7, 0, 0},
		{OP_LINK, "big", "new", 0, 0, 0},     {OP_RENAME, "big", "moved", 0, 0, 0},
		{OP_COPY, "moved", "file", 0, 0, 10},
	};
	struct world *w = *state;
	uint64_t ino = world_ino(w, "big");
	struct tree_change times = {.fields = INODE_ATIME | INODE_MTIME, .attr = {.mtime = {5, 6}, .atime = {7, 8}}};
	struct inode out;

	tree_hold(&w->tree, ino);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		expect_status(op_tree(w, &ops[i]), 0, "step %zu", i);
	assert_int_equal(tree_setattr(&w->tree, ino, &times, &out), 0);
	assert_int_equal(out.mtime.tv_nsec, 6);
	assert_int_equal(out.atime.tv_sec, 7);
	assert_int_equal(tree_setxattr(&w->tree, ino, "user.a", "b", 1, 0), 0);
	assert_int_equal(tree_fsync(&w->tree, ino), 0);
	expect_bytes(w, ino, big, BIG);
	assert_false(world_has_content(w, ino));
	world_reopen(w);
	assert_false(world_has_content(w, ino));
	assert_int_equal(tree_write(&w->tree, ino, "W", 1, 10), 1);
	big[10] = 'W';
	assert_true(world_has_content(w, ino));
	expect_bytes(w, world_ino(w, "dir/hard"), big, BIG);
	expect_bytes(w, world_ino(w, "new"), big, BIG);
	assert_int_equal(world_ino(w, "moved"), ino);
	assert_int_equal(world_inode(w, "moved").nlink, 3);
	tree_release(&w->tree, ino, 1);
}

static void the_base_itself_never_changes(void **state)
{
	static const struct op ops[] = {
		{OP_WRITE, "big", NULL, 1, 100, 9000},  {OP_TRUNCATE, "file", NULL, 0, 1, 0},
		{OP_UNLINK, "empty", NULL, 0, 0, 0},    {OP_PUNCH, "dir/hard", NULL, 0, 4096, 8192},
		{OP_CHMOD, "gone", NULL, 0, 0, 0},      {OP_UNLINK, "fifo", NULL, 0, 0, 0},
		{OP_COPY, "big", "gone", 3, 100, 5000}, {OP_RENAME, "dir", "elsewhere", 0, 0, 0},
	};
	struct world *w = *state;
	char *want = dump_host(w->base), *got;

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		expect_status(op_tree(w, &ops[i]), 0, "step %zu", i);
	got = dump_host(w->base);
	dump_expect(got, want, "the base");
	free(got);
	free(want);
	world_reopen(w);
}

static void bytes_are_those_of_a_host_file(void **state)
{
	const struct op steps[] = {
		{OP_WRITE, "big", NULL, 1, 5, 100},
		{OP_WRITE, "big", NULL, 2, BIG - 10, 5000},
		{OP_TRUNCATE, "big", NULL, 0, 70000, 0},
		{OP_TRUNCATE, "big", NULL, 0, 200000, 0},
		{OP_WRITE, "empty", NULL, 3, 100000, 1},
		{OP_PUNCH, "empty", NULL, 0, 99000, 3000},
		{OP_COPY, "big", "empty", 50000, 60000, 30000},
		{OP_COPY, "file", "big", 0, 0, 100},
		{OP_COPY, "big", "big", 150000, 0, 50000},
		{OP_COPY, "big", "big", 10, 0, 5000},
		{OP_COPY, "big", "file", 0, 10000000, 5},
		{OP_TRUNCATE, "file", NULL, 0, 0, 0},
		{OP_TRUNCATE, "file", NULL, 0, 0, 0},
		{OP_COPY, "file", "big", 0, 0, 10},
		{OP_WRITE, "file", NULL, 4, 0, 1},
		{OP_COPY, "fifo", "big", 0, 0, 1},
		{OP_COPY, "big", "dir", 0, 0, 1},
		{OP_PUNCH, "big", NULL, 0, 0, 0},
		{OP_TRUNCATE, "gone", NULL, 0, 4, 0},
		{OP_TRUNCATE, "gone", NULL, 0, 9, 0},
		{OP_TRUNCATE, "sparse", NULL, 0, 3 * GIB, 0},
		{OP_TRUNCATE, "fifo", NULL, 0, 0, 0},
	};
	struct world *w = *state;
	char host[200], text[2 * OP_PATH_MAX];
	int hostfd;

	snprintf(host, sizeof(host), "%s/host", w->place.path);
	place_copy(w->base, host);
	hostfd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(unlinkat(hostfd, "sparse", 0), 0);
	assert_int_equal(tree_unlink(&w->tree, 1, "sparse"), 0);
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		char *want;

		op_both(w, hostfd, &steps[i]);
		if (i % 3 == 0)
			world_reopen(w);
		if (i == 4)
			world_snapshot(w, "s");
		want = dump_host(host);
		dump_expect_world(w, DUMP_PLAIN, want, op_text(&steps[i], text));
		free(want);
	}
	close(hostfd);
}

static void files_above_4_gib_stay_sparse(void **state)
{
	struct world *w = *state;
	uint64_t ino = world_ino(w, "sparse");
	struct inode i = world_inode(w, "sparse");
	char bytes[8] = "";

	assert_int_equal(i.size, 5 * GIB + 3);
	assert_int_equal(tree_write(&w->tree, ino, "far", 3, 6 * GIB), 3);
	for (unsigned int round = 0; round < 2; round++) {
		i = world_inode(w, "sparse");
		assert_int_equal(i.size, 6 * GIB + 3);
		assert_int_equal(session_settle(&w->store->session), 0);
		assert_true(stack_top(&w->store->session.stack)->blocks * 512 < 32 << 20);
		assert_int_equal(tree_read(&w->tree, ino, bytes, 6, 2 * GIB), 6);
		assert_memory_equal(bytes, "middle", 6);
		assert_int_equal(tree_read(&w->tree, ino, bytes, 8, 6 * GIB), 3);
		assert_true((uint64_t)tree_lseek(&w->tree, ino, 3 * GIB, SEEK_DATA) / 2097152 == 5 * GIB / 2097152);
		assert_int_equal(tree_lseek(&w->tree, ino, 3 * GIB, SEEK_HOLE), 3 * GIB);
		assert_int_equal(tree_lseek(&w->tree, ino, 6 * GIB + 3, SEEK_DATA), -ENXIO);
		world_reopen(w);
	}
	assert_int_equal(world_truncate(w, ino, 100 * GIB), 0);
	assert_int_equal(world_truncate(w, ino, UINT64_C(1) << 63), -EFBIG);
	assert_int_equal(tree_write(&w->tree, ino, "x", 1, INT64_MAX), -EFBIG);
	assert_int_equal(world_inode(w, "sparse").size, 100 * GIB);
}

static void fallocate_does_what_its_flags_say(void **state)
{
	struct world *w = *state;
	uint64_t ino = world_ino(w, "big"), made = world_ino(w, "empty");

	assert_int_equal(tree_fallocate(&w->tree, made, 0, 0, 5000), 0);
	assert_int_equal(world_inode(w, "empty").size, 5000);
	assert_int_equal(tree_fallocate(&w->tree, made, FALLOC_FL_KEEP_SIZE, 5000, 9000), 0);
	assert_int_equal(world_inode(w, "empty").size, 5000);
	assert_int_equal(tree_fallocate(&w->tree, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
	memset(big + 4096, 0, 8192);
	expect_bytes(w, ino, big, BIG);
	assert_int_equal(tree_fallocate(&w->tree, ino, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	assert_int_equal(tree_fallocate(&w->tree, ino, 0, 0, 0), -EINVAL);
	assert_int_equal(tree_fallocate(&w->tree, ino, 0, INT64_MAX, 1), -EFBIG);
	assert_true(tree_fallocate(&w->tree, 1, 0, 0, 1) < 0);
	world_reopen(w);
	expect_bytes(w, ino, big, BIG);
}

/* Does the writes under a limit that stops them all, and tells the state after. */
static void expect_writes_to_fail(struct world *w, const char *name, uint64_t limit)
{
	struct rlimit old, low;
	uint64_t ino = world_ino(w, name);
	char *before = dump_world(w, DUMP_ALL), *after;
	long results[3];

	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = old;
	low.rlim_cur = limit;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	results[0] = tree_write(&w->tree, ino, "x", 1, 2 * limit);
	results[1] = world_truncate(w, ino, 2 * limit);
	results[2] = tree_fallocate(&w->tree, ino, 0, 2 * limit, 10);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	for (unsigned int i = 0; i < 3; i++)
		expect_status(results[i], -EFBIG, "%s, write %u", name, i);
	after = dump_world(w, DUMP_ALL);
	dump_expect(after, before, "a write that failed");
	free(after);
	world_reopen(w);
	after = dump_world(w, DUMP_ALL);
	dump_expect(after, before, "reopened after a write that failed");
	free(after);
	free(before);
}

static void a_write_that_fails_changes_nothing(void **state)
{
	static const struct op run[] = {{OP_WRITE, "file", NULL, 1, 0, 50}, {OP_WRITE, "dir/hard", NULL, 1, 0, 50}};
	struct world *w = *state;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(tree_unlink(&w->tree, 1, "sparse"), 0);
	expect_writes_to_fail(w, "file", 1 << 20);
	expect_writes_to_fail(w, "empty", 1 << 20);
	expect_writes_to_fail(w, "big", 1 << 20); /* copied up, but told of nowhere */
	for (size_t i = 0; i < ARRAY_LEN(run); i++)
		assert_int_equal(op_tree(w, &run[i]), 0);
	expect_writes_to_fail(w, "file", 1 << 20); /* in a run of writes */
	expect_writes_to_fail(w, "big", 1 << 20);
}

static void a_copy_up_that_fails_changes_nothing(void **state)
{
	static const struct op change = {OP_WRITE, "big", NULL, 1, 0, 50};
	struct world *w = *state;
	uint64_t ino = world_ino(w, "big");
	struct rlimit old, low;
	char *before;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(tree_unlink(&w->tree, 1, "sparse"), 0);
	before = dump_world(w, DUMP_ALL);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	low = old;
	low.rlim_cur = BIG / 2;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
	expect_status(op_tree(w, &change), -EFBIG, "copy-up");
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_false(world_has_content(w, ino));
	dump_expect_world(w, DUMP_ALL, before, "a copy-up that failed");
	free(before);
	assert_int_equal(op_tree(w, &change), 0);
}

static void a_base_that_changed_is_an_error_that_names_the_file(void **state)
{
	static const struct op copy = {OP_COPY, "gone", "file", 0, 0, 5};
	struct world *w = *state;
	uint64_t ino = world_ino(w, "gone");
	struct inode before = world_inode(w, "file"), after;
	char bytes[20];
	int fd = open(w->base, O_RDONLY | O_DIRECTORY);

	place_put(fd, "gone", "has changed", 11);
	place_forget_lines(&w->place);
	assert_int_equal(tree_read(&w->tree, ino, bytes, sizeof(bytes), 0), -EIO);
	assert_non_null(strstr(w->place.lines, "/base/gone: "));
	assert_int_equal(tree_write(&w->tree, ino, "x", 1, 0), -EIO);
	assert_false(world_has_content(w, ino));
	assert_int_equal(op_tree(w, &copy), -EIO);
	after = world_inode(w, "file");
	assert_memory_equal(&after.mtime, &before.mtime, sizeof(after.mtime));
	assert_int_equal(unlinkat(fd, "gone", 0), 0);
	assert_int_equal(tree_read(&w->tree, ino, bytes, sizeof(bytes), 0), -EIO);
	close(fd);
}

static void nothing_written_is_no_change(void **state)
{
	struct world *w = *state;
	uint64_t ino = world_ino(w, "file");
	char *before = dump_world(w, DUMP_ALL);

	assert_int_equal(tree_write(&w->tree, ino, "", 0, 1000), 0);
	assert_int_equal(tree_copy_range(&w->tree, world_ino(w, "big"), BIG, ino, 5000, 10), 0);
	assert_int_equal(tree_copy_range(&w->tree, world_ino(w, "big"), 0, ino, 5000, 0), 0);
	dump_expect_world(w, DUMP_ALL, before, "nothing written");
	free(before);
}

static void only_regular_files_have_bytes(void **state)
{
	struct world *w = *state;
	uint64_t fifo = world_ino(w, "fifo");
	char byte;

	assert_int_equal(tree_read(&w->tree, 1, &byte, 1, 0), -EISDIR);
	assert_int_equal(tree_write(&w->tree, 1, "x", 1, 0), -EISDIR);
	assert_int_equal(tree_read(&w->tree, fifo, &byte, 1, 0), -EINVAL);
	assert_int_equal(world_truncate(w, fifo, 0), -EINVAL);
	assert_int_equal(tree_read(&w->tree, 4711, &byte, 1, 0), -ESTALE);
	assert_int_equal(tree_copy_range(&w->tree, fifo, 0, world_ino(w, "file"), 0, 1), -EINVAL);
}

/* More files in runs of writes than the session keeps track of, and than there are descriptors. */
static void many_files_can_be_written_at_once(void **state)
{
	struct world *w = *state;
	char *want;

	assert_int_equal(tree_unlink(&w->tree, 1, "sparse"), 0);
	for (unsigned int i = 0; i < 2 * SESSION_DIRTY_MAX; i++) {
		char name[16];
		struct op make = {OP_MKFILE, name, NULL, 0, 0, 0}, write = {OP_WRITE, name, NULL, i, 0, 10 + i};

		snprintf(name, sizeof(name), "n%u", i);
		assert_int_equal(op_tree(w, &make), 0);
		assert_int_equal(op_tree(w, &write), 0);
	}
	want = dump_world(w, DUMP_INOS);
	world_crash(w);
	world_open(w);
	dump_expect_world(w, DUMP_INOS, want, "after a crash");
	free(want);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(nothing_but_a_write_copies_up),        TEST(the_base_itself_never_changes),
		TEST(bytes_are_those_of_a_host_file),       TEST(files_above_4_gib_stay_sparse),
		TEST(fallocate_does_what_its_flags_say),    TEST(a_write_that_fails_changes_nothing),
		TEST(a_copy_up_that_fails_changes_nothing), TEST(a_base_that_changed_is_an_error_that_names_the_file),
		TEST(nothing_written_is_no_change),         TEST(only_regular_files_have_bytes),
		TEST(many_files_can_be_written_at_once),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
