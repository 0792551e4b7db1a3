/*
 * unit_rename: promises of tree_rename, told by the kernel that runs the test.
 * Invariant: the same rename is done in a session and in a host directory that began alike; results and
 * trees must agree.
 * Called by meson test.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

/* What a name can be before a rename. */
static const char *const kinds[] = {"absent", "file", "other-file", "hard", "empty", "full", "link", "fifo"};

static void make_kinds(int dirfd)
{
	place_put(dirfd, "file", "one", 3);
	place_put(dirfd, "other-file", "two two", 7);
	assert_int_equal(linkat(dirfd, "file", dirfd, "hard", 0), 0);
	assert_int_equal(mkdirat(dirfd, "empty", 0755), 0);
	assert_int_equal(mkdirat(dirfd, "full", 0750), 0);
	assert_int_equal(mkdirat(dirfd, "full/below", 0755), 0);
	place_put(dirfd, "full/below/deep", "deep", 4);
	assert_int_equal(symlinkat("file", dirfd, "link"), 0);
	assert_int_equal(mknodat(dirfd, "fifo", S_IFIFO | 0600, 0), 0);
}

static void fill_base(int basefd)
{
	static const char *const dirs[] = {"from", "to"};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		int fd;

		assert_int_equal(mkdirat(basefd, dirs[i], 0755), 0);
		fd = openat(basefd, dirs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		make_kinds(fd);
		close(fd);
	}
}

/* A session and a host directory that show the same. */
struct twins {
	struct world w;
	char host[200];
	int hostfd;
};

static int setup(void **state)
{
	struct twins *t = calloc(1, sizeof(*t));

	world_make(&t->w, fill_base);
	snprintf(t->host, sizeof(t->host), "%s/host", t->w.place.path);
	place_copy(t->w.base, t->host);
	t->hostfd = open(t->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(t->hostfd >= 0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct twins *t = *state;

	close(t->hostfd);
	world_fini(&t->w);
	free(t);
	return 0;
}

static void start_over(struct twins *t)
{
	close(t->hostfd);
	assert_int_equal(io_remove_tree(t->w.place.fd, "host"), 0);
	place_copy(t->w.base, t->host);
	t->hostfd = open(t->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void expect_twins(struct twins *t, const struct op *op)
{
	char *want = dump_host(t->host);
	char text[2 * OP_PATH_MAX];

	dump_expect_world(&t->w, DUMP_PLAIN, want, op_text(op, text));
	free(want);
}

/* One rename of every kind over every kind between two directories; the trees are put back when it did something. */
static void try_all(struct twins *t, const char *from_dir, const char *to_dir, const char *back_to)
{
	static const unsigned int flags[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	char from[64], to[64];

	for (size_t i = 0; i < ARRAY_LEN(kinds) * ARRAY_LEN(kinds) * ARRAY_LEN(flags); i++) {
		struct op op = {OP_RENAME, from, to, flags[i % ARRAY_LEN(flags)], 0, 0};
		size_t k = i / ARRAY_LEN(flags);

		snprintf(from, sizeof(from), "%s/%s", from_dir, kinds[k % ARRAY_LEN(kinds)]);
		snprintf(to, sizeof(to), "%s/%s", to_dir, kinds[k / ARRAY_LEN(kinds)]);
		if (op_both(&t->w, t->hostfd, &op) < 0)
			continue;
		expect_twins(t, &op);
		world_reopen(&t->w);
		expect_twins(t, &op);
		world_reset(&t->w, back_to);
		start_over(t);
	}
}

static void every_type_over_every_type_of_the_base(void **state)
{
	try_all(*state, "from", "to", SNAPSHOT_BASE);
}

static void every_type_over_every_type_in_one_directory(void **state)
{
	try_all(*state, "from", "from", SNAPSHOT_BASE);
}

/* The same names, but made in a session: the base's are removed, and a snapshot lies between. */
static void make_in_session(struct world *w, const char *dir)
{
	static const struct {
		enum op_kind kind;
		const char *a, *b;
		size_t len;
	} steps[] = {
		{OP_UNLINK, "fifo", NULL, 0},
		{OP_UNLINK, "link", NULL, 0},
		{OP_UNLINK, "hard", NULL, 0},
		{OP_UNLINK, "file", NULL, 0},
		{OP_UNLINK, "full/below/deep", NULL, 0},
		{OP_RMDIR, "full/below", NULL, 0},
		{OP_RMDIR, "full", NULL, 0},
		{OP_RMDIR, "empty", NULL, 0},
		{OP_MKDIR, "empty", NULL, 0},
		{OP_MKDIR, "full", NULL, 0},
		{OP_MKDIR, "full/below", NULL, 0},
		{OP_MKFILE, "full/below/deep", NULL, 0},
		{OP_MKFILE, "file", NULL, 0},
		{OP_WRITE, "file", NULL, 30},
		{OP_LINK, "file", "hard", 0},
		{OP_SYMLINK, "link", "made", 0},
		{OP_MKFIFO, "fifo", NULL, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		char a[64], b[64];
		struct op op = {steps[i].kind, a, steps[i].b, 1, 0, steps[i].len};

		snprintf(a, sizeof(a), "%s/%s", dir, steps[i].a);
		snprintf(b, sizeof(b), "%s/%s", dir, steps[i].b ? steps[i].b : "");
		if (op.kind == OP_LINK)
			op.b = b;
		expect_status(op_tree(w, &op), 0, "%s", a);
		if (i == ARRAY_LEN(steps) / 2)
			world_snapshot(w, dir);
	}
}

static void every_type_over_every_type_of_a_session(void **state)
{
	static const unsigned int flags[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	struct twins *t = *state;
	char from[64], to[64];

	make_in_session(&t->w, "from");
	make_in_session(&t->w, "to");
	world_snapshot(&t->w, "made");
	for (size_t i = 0; i < ARRAY_LEN(kinds) * ARRAY_LEN(kinds) * ARRAY_LEN(flags); i++) {
		struct op op = {OP_RENAME, from, to, flags[i % ARRAY_LEN(flags)], 0, 0};
		size_t k = i / ARRAY_LEN(flags);

		snprintf(from, sizeof(from), "from/%s", kinds[k % ARRAY_LEN(kinds)]);
		snprintf(to, sizeof(to), "to/%s", kinds[k / ARRAY_LEN(kinds)]);
		if (op_both(&t->w, t->hostfd, &op) == 0) {
			world_reset(&t->w, "made");
			start_over(t);
		}
	}
}

static void names_that_cannot_be_renamed(void **state)
{
	static char longest[256], too_long[257];
	static const struct op ops[] = {
		{OP_RENAME, "from/full", "from/full/below/deeper", 0, 0, 0},
		{OP_RENAME, "from/full", "from/full/x", 0, 0, 0},
		{OP_RENAME, "from/full/below", "from/full", 0, 0, 0},
		{OP_RENAME, "from/full/below/deep", "from/full", 0, 0, 0},
		{OP_RENAME, "from/full", "from/full/below", RENAME_EXCHANGE, 0, 0},
		{OP_RENAME, "from/full/below", "from/full", RENAME_EXCHANGE, 0, 0},
		{OP_RENAME, "from/full/below/deep", "from", RENAME_EXCHANGE, 0, 0},
		{OP_RENAME, "from", "to/full/below/from", 0, 0, 0},
		{OP_RENAME, "to", "from/below/to", 0, 0, 0},
		{OP_RENAME, "from/..", "to/x", 0, 0, 0},
		{OP_RENAME, "from/.", "to/x", 0, 0, 0},
		{OP_RENAME, "from/file", "to/..", 0, 0, 0},
		{OP_RENAME, "from/file", "to/.", 0, 0, 0},
		{OP_RENAME, "from/file", "absent/x", 0, 0, 0},
		{OP_RENAME, "absent/x", "from/file", 0, 0, 0},
		{OP_RENAME, "from/file/x", "from/y", 0, 0, 0},
		{OP_RENAME, "from/other-file", "from/file/x", 0, 0, 0},
		{OP_RENAME, "from/file", longest, 0, 0, 0},
		{OP_RENAME, "to/file", too_long, 0, 0, 0},
		{OP_RENAME, too_long, "to/x", 0, 0, 0},
		{OP_RENAME, "to/file", "to/file", 0, 0, 0},
		{OP_RENAME, "to/full", "to/full", 0, 0, 0},
		{OP_RENAME, "to/full", "to/full", RENAME_NOREPLACE, 0, 0},
		{OP_RENAME, "to/full", "to/full", RENAME_EXCHANGE, 0, 0},
		{OP_RENAME, "to/file", "to/link", RENAME_EXCHANGE | RENAME_NOREPLACE, 0, 0},
		{OP_RENAME, "to/file", "to/link", 1u << 30, 0, 0},
	};
	struct twins *t = *state;

	memset(longest, 'l', 255);
	memset(too_long, 't', 256);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		op_both(&t->w, t->hostfd, &ops[i]);
		expect_twins(t, &ops[i]);
	}
}

static void a_base_directory_moves_in_one_step_with_all_below(void **state)
{
	struct twins *t = *state;
	struct world *w = &t->w;
	struct inode before = world_inode(w, "from/full/below/deep");
	uint64_t dir = world_ino(w, "from/full");
	uint64_t size = journal_size(stack_top(&w->store->session.stack)->journal);

	expect_status(tree_rename(&w->tree, 1, "from", world_ino(w, "to/empty"), "moved", 0), 0, "rename");
	assert_true(journal_size(stack_top(&w->store->session.stack)->journal) - size < 400);
	assert_int_equal(world_ino(w, "to/empty/moved/full/below/deep"), before.ino);
	assert_int_equal(world_ino(w, "to/empty/moved/full"), dir);
	assert_int_equal(world_ino(w, "to/empty/moved/.."), world_ino(w, "to/empty"));
	assert_int_equal(world_ino(w, "to/empty/moved/full/../../.."), world_ino(w, "to"));
	assert_int_equal(world_find(w, "from", &before), -ENOENT);
	world_reopen(w);
	assert_int_equal(world_ino(w, "to/empty/moved/full"), dir);
}

static bool is_after(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

static void a_rename_stamps_both_directories_and_what_it_moves(void **state)
{
	struct twins *t = *state;
	struct world *w = &t->w;
	struct inode from = world_inode(w, "from"), to = world_inode(w, "to");
	struct inode moved = world_inode(w, "from/file"), replaced = world_inode(w, "to/file"), now;

	tree_hold(&w->tree, replaced.ino);
	expect_status(tree_rename(&w->tree, from.ino, "file", to.ino, "file", 0), 0, "rename");
	now = world_inode(w, "from");
	assert_true(is_after(now.mtime, from.mtime) && is_after(now.ctime, from.ctime));
	assert_memory_equal(&now.atime, &from.atime, sizeof(now.atime));
	now = world_inode(w, "to");
	assert_true(is_after(now.mtime, to.mtime) && is_after(now.ctime, to.ctime));
	now = world_inode(w, "to/file");
	assert_int_equal(now.ino, moved.ino);
	assert_true(is_after(now.ctime, moved.ctime));
	assert_memory_equal(&now.mtime, &moved.mtime, sizeof(now.mtime));
	assert_int_equal(tree_getattr(&w->tree, replaced.ino, &now), 0);
	assert_int_equal(now.nlink, replaced.nlink - 1);
	assert_true(is_after(now.ctime, replaced.ctime));
	tree_release(&w->tree, replaced.ino, 1);
}

/* Records whose checksums are right may say so. */
static void a_circle_of_parents_is_an_error_and_no_hang(void **state)
{
	struct twins *t = *state;
	struct session *s = &t->w.store->session;
	struct inode from = world_inode(&t->w, "from");
	uint64_t full = world_ino(&t->w, "from/full");

	from.parent = full;
	record_start(&s->record);
	record_inode(&s->record, &from, INODE_PARENT);
	assert_int_equal(session_apply(s), 0);
	alarm(60);
	expect_status(tree_rename(&t->w.tree, world_ino(&t->w, "to"), "empty", full, "moved", 0), -EINVAL, "rename");
	alarm(0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_type_over_every_type_of_the_base),
		TEST(every_type_over_every_type_in_one_directory),
		TEST(every_type_over_every_type_of_a_session),
		TEST(names_that_cannot_be_renamed),
		TEST(a_base_directory_moves_in_one_step_with_all_below),
		TEST(a_rename_stamps_both_directories_and_what_it_moves),
		TEST(a_circle_of_parents_is_an_error_and_no_hang),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
