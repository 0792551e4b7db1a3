/*
 * unit_names: promises of tree: making, linking and removing names, told by the kernel that runs the test.
 * Invariant: where the kernel can do the same in a host directory, its answer is the one wanted.
 * Called by meson test.
 */
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
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
	place_put(basefd, "dir/child", "child", 5);
	assert_int_equal(mkdirat(basefd, "dir/sub", 0755), 0);
	assert_int_equal(linkat(basefd, "file", basefd, "dir/hard", 0), 0);
	assert_int_equal(symlinkat("nowhere", basefd, "link"), 0);
	assert_int_equal(mknodat(basefd, "fifo", S_IFIFO | 0644, 0), 0);
	assert_int_equal(mkdirat(basefd, "empty", 0755), 0);
}

static int setup(void **state)
{
	*state = world_new(fill_base);
	return 0;
}

static const char *long_name(size_t len)
{
	static char names[2][300];
	char *name = names[len % 2];

	memset(name, 'n', len);
	name[len] = '\0';
	return name;
}

static void every_operation_answers_as_the_kernel_does(void **state)
{
	const struct op ops[] = {
		{OP_MKDIR, "dir", NULL, 0, 0, 0},           {OP_MKDIR, "file", NULL, 0, 0, 0},
		{OP_MKDIR, "file/x", NULL, 0, 0, 0},        {OP_MKDIR, "absent/x", NULL, 0, 0, 0},
		{OP_MKDIR, "link/x", NULL, 0, 0, 0},        {OP_MKDIR, ".", NULL, 0, 0, 0},
		{OP_MKDIR, "dir/..", NULL, 0, 0, 0},        {OP_MKDIR, "dir/new", NULL, 0, 0, 0},
		{OP_MKDIR, long_name(255), NULL, 0, 0, 0},  {OP_MKDIR, long_name(256), NULL, 0, 0, 0},
		{OP_MKFILE, "dir/new/file", NULL, 0, 0, 0}, {OP_MKFILE, "dir/new/file", NULL, 0, 0, 0},
		{OP_MKFIFO, "link", NULL, 0, 0, 0},         {OP_SYMLINK, "dir/new/link", "t", 0, 0, 0},
		{OP_SYMLINK, "file", "t", 0, 0, 0},         {OP_MKFIFO, "dir/new/\xff\xfe", NULL, 0, 0, 0},
		{OP_LINK, "file", "dir/new/hard", 0, 0, 0}, {OP_LINK, "file", "link", 0, 0, 0},
		{OP_LINK, "dir", "dir2", 0, 0, 0},          {OP_LINK, "dir", "file", 0, 0, 0},
		{OP_LINK, "absent", "x", 0, 0, 0},          {OP_LINK, "link", "link2", 0, 0, 0},
		{OP_LINK, "fifo", "fifo2", 0, 0, 0},        {OP_LINK, "file", "file/x", 0, 0, 0},
		{OP_LINK, "file", "absent/x", 0, 0, 0},     {OP_LINK, "file", long_name(256), 0, 0, 0},
		{OP_LINK, "file", "dir/new/.", 0, 0, 0},    {OP_UNLINK, "absent", NULL, 0, 0, 0},
		{OP_UNLINK, "file/x", NULL, 0, 0, 0},       {OP_UNLINK, "dir", NULL, 0, 0, 0},
		{OP_UNLINK, "empty", NULL, 0, 0, 0},        {OP_UNLINK, "absent/x", NULL, 0, 0, 0},
		{OP_UNLINK, long_name(256), NULL, 0, 0, 0}, {OP_UNLINK, "dir/.", NULL, 0, 0, 0},
		{OP_UNLINK, "dir/..", NULL, 0, 0, 0},       {OP_UNLINK, "link", NULL, 0, 0, 0},
		{OP_UNLINK, "file", NULL, 0, 0, 0},         {OP_UNLINK, "file", NULL, 0, 0, 0},
		{OP_UNLINK, "dir/hard", NULL, 0, 0, 0},     {OP_RMDIR, "absent", NULL, 0, 0, 0},
		{OP_RMDIR, "fifo", NULL, 0, 0, 0},          {OP_RMDIR, "dir", NULL, 0, 0, 0},
		{OP_RMDIR, "dir/new", NULL, 0, 0, 0},       {OP_RMDIR, "dir/.", NULL, 0, 0, 0},
		{OP_RMDIR, "dir/..", NULL, 0, 0, 0},        {OP_RMDIR, long_name(256), NULL, 0, 0, 0},
		{OP_RMDIR, "fifo/x", NULL, 0, 0, 0},        {OP_RMDIR, "empty", NULL, 0, 0, 0},
		{OP_RMDIR, "empty", NULL, 0, 0, 0},         {OP_RMDIR, "dir/sub", NULL, 0, 0, 0},
		{OP_UNLINK, "dir/child", NULL, 0, 0, 0},    {OP_MKDIR, "empty", NULL, 0, 0, 0},
		{OP_TRUNCATE, "absent", NULL, 0, 1, 0},     {OP_TRUNCATE, "dir", NULL, 0, 1, 0},
		{OP_WRITE, "fifo", NULL, 0, 0, 1},          {OP_CHMOD, "absent", NULL, 0644, 0, 0},
	};
	struct world *w = *state;
	char host[200], text[2 * OP_PATH_MAX];
	int hostfd;

	snprintf(host, sizeof(host), "%s/host", w->place.path);
	place_copy(w->base, host);
	hostfd = open(host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		char *want;

		op_both(w, hostfd, &ops[i]);
		want = dump_host(host);
		dump_expect_world(w, DUMP_PLAIN, want, op_text(&ops[i], text));
		free(want);
	}
	close(hostfd);
}

static void names_that_no_name_can_be_are_refused(void **state)
{
	static const struct tree_new file = {.mode = S_IFREG | 0644};
	struct world *w = *state;
	struct inode out;
	int r;

	assert_true(tree_make(&w->tree, 1, "", &file, &out) < 0);
	r = tree_make(&w->tree, 1, "a/b", &file, &out);
	assert_true(r == -EINVAL || r == -EEXIST); /* and not refused by the journal only */
	assert_true(tree_rename(&w->tree, 1, "file", 1, "a/b", 0) < 0);
	assert_true(tree_rename(&w->tree, 1, "file", 1, "", 0) < 0);
	assert_int_equal(tree_lookup(&w->tree, 1, long_name(256), &out), -ENAMETOOLONG);
	assert_int_equal(tree_lookup(&w->tree, 999, "x", &out), -ESTALE);
	assert_int_equal(tree_getattr(&w->tree, 0, &out), -ESTALE);
	assert_int_equal(tree_getattr(&w->tree, UINT64_MAX, &out), -ESTALE);
	assert_int_equal(tree_link(&w->tree, 999, 1, "x", &out), -ESTALE);
	world_reopen(w);
}

static void devices_and_targets_keep_what_they_were_made_with(void **state)
{
	static const struct tree_new whats[] = {
		{.mode = S_IFCHR | 06640, .uid = 3, .gid = UINT32_MAX - 1, .rdev = UINT64_C(0xfff) << 32 | 0xfffff},
		{.mode = S_IFBLK | 0600, .rdev = UINT64_C(8) << 32 | 1},
		{.mode = S_IFSOCK | 0777},
		{.mode = S_IFLNK | 0777, .target = "../a b\n\xff"},
		{.mode = S_IFREG | 01777, .rdev = 5},
	};
	struct world *w = *state;
	char *too_long = calloc(1, 4097);
	struct tree_new link = {.mode = S_IFLNK | 0777, .target = too_long};
	struct inode out;

	for (size_t i = 0; i < ARRAY_LEN(whats); i++) {
		char name[2] = {(char)('a' + i), '\0'};

		assert_int_equal(tree_make(&w->tree, 1, name, &whats[i], &out), 0);
	}
	memset(too_long, 't', 4096);
	assert_int_equal(tree_make(&w->tree, 1, "long", &link, &out), -ENAMETOOLONG);
	too_long[4095] = '\0';
	assert_int_equal(tree_make(&w->tree, 1, "long", &link, &out), 0);
	free(too_long);
	world_reopen(w);
	for (size_t i = 0; i < ARRAY_LEN(whats); i++) {
		char name[2] = {(char)('a' + i), '\0'};
		struct inode got = world_inode(w, name);

		assert_int_equal(got.mode, whats[i].mode);
		assert_int_equal(got.uid, whats[i].uid);
		assert_int_equal(got.gid, whats[i].gid);
		assert_int_equal(got.rdev, S_ISREG(got.mode) ? 0 : whats[i].rdev);
		assert_int_equal(got.nlink, 1);
	}
	assert_int_equal(world_inode(w, "long").size, 4095);
	assert_int_equal(world_inode(w, "d").size, 8);
}

static void a_base_directory_made_again_shows_no_old_children(void **state)
{
	static const struct op ops[] = {
		{OP_UNLINK, "dir/child", NULL, 0, 0, 0}, {OP_UNLINK, "dir/hard", NULL, 0, 0, 0},
		{OP_RMDIR, "dir/sub", NULL, 0, 0, 0},    {OP_RMDIR, "dir", NULL, 0, 0, 0},
		{OP_MKDIR, "dir", NULL, 0, 0, 0},
	};
	struct world *w = *state;
	uint64_t before = world_ino(w, "dir");
	struct inode out;

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		expect_status(op_tree(w, &ops[i]), 0, "step %zu", i);
	for (unsigned int round = 0; round < 2; round++) {
		assert_int_not_equal(world_ino(w, "dir"), before);
		assert_int_equal(tree_dir_empty(&w->tree, world_ino(w, "dir")), 0);
		assert_int_equal(world_find(w, "dir/child", &out), -ENOENT);
		assert_int_equal(world_inode(w, "dir").nlink, 2);
		assert_int_equal(world_inode(w, "file").nlink, 1);
		world_reopen(w);
	}
}

static bool is_after(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec ? a.tv_sec > b.tv_sec : a.tv_nsec > b.tv_nsec;
}

/* mtime and ctime of the root, ctime of the inode. */
static void expect_stamped(struct world *w, struct inode *dir, struct inode *inode, const char *what)
{
	struct inode now = world_inode(w, "");

	if (!is_after(now.mtime, dir->mtime) || !is_after(now.ctime, dir->ctime))
		fail_msg("%s: the directory's times stood still", what);
	*dir = now;
	assert_int_equal(tree_getattr(&w->tree, inode->ino, &now), 0);
	if (!is_after(now.ctime, inode->ctime) || is_after(now.mtime, inode->mtime))
		fail_msg("%s: the inode's ctime stood still, or its mtime did not", what);
	*inode = now;
}

static void names_stamp_their_directory_and_inode(void **state)
{
	static const struct op chmod_op = {OP_CHMOD, "file", NULL, 0600, 0, 0};
	static const struct op chown_op = {OP_CHOWN, "file", NULL, 1, 0, 0};
	struct world *w = *state;
	struct inode dir = world_inode(w, ""), file = world_inode(w, "file"), out;

	tree_hold(&w->tree, file.ino);
	assert_int_equal(tree_link(&w->tree, file.ino, 1, "more", &out), 0);
	expect_stamped(w, &dir, &file, "link");
	assert_int_equal(tree_unlink(&w->tree, 1, "file"), 0);
	expect_stamped(w, &dir, &file, "unlink");
	assert_int_equal(tree_rename(&w->tree, 1, "more", 1, "file", 0), 0);
	expect_stamped(w, &dir, &file, "rename");
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(op_tree(w, i ? &chown_op : &chmod_op), 0);
		out = world_inode(w, "file");
		assert_true(is_after(out.ctime, file.ctime) && !is_after(out.mtime, file.mtime));
		file = out;
	}
	out = world_inode(w, "");
	assert_memory_equal(&out.ctime, &dir.ctime, sizeof(dir.ctime));
	tree_release(&w->tree, file.ino, 1);
}

/* Written, read, changed and linked while it has no name; gone when nobody holds it. */
static void an_orphan_lives_until_it_is_released(void **state)
{
	static const struct op write = {OP_WRITE, "orphan", NULL, 3, 0, 100};
	static const struct op make = {OP_MKFILE, "orphan", NULL, 0, 0, 0};
	struct world *w = *state;
	struct inode out;
	char bytes[200];
	uint64_t ino;

	assert_int_equal(op_tree(w, &make), 0);
	assert_int_equal(op_tree(w, &write), 0);
	ino = world_ino(w, "orphan");
	tree_hold(&w->tree, ino);
	tree_hold(&w->tree, ino);
	assert_int_equal(tree_unlink(&w->tree, 1, "orphan"), 0);
	assert_int_equal(tree_getattr(&w->tree, ino, &out), 0);
	assert_int_equal(out.nlink, 0);
	assert_int_equal(tree_read(&w->tree, ino, bytes, sizeof(bytes), 0), 100);
	assert_int_equal(tree_write(&w->tree, ino, "more", 4, 100), 4);
	assert_int_equal(tree_read(&w->tree, ino, bytes, sizeof(bytes), 0), 104);
	tree_release(&w->tree, ino, 1);
	assert_true(world_has_content(w, ino));
	tree_release(&w->tree, ino, 1);
	assert_false(world_has_content(w, ino));
	assert_int_equal(tree_getattr(&w->tree, ino, &out), -ESTALE);
	world_reopen(w);
	assert_int_equal(tree_getattr(&w->tree, ino, &out), -ESTALE);
}

static void orphans_of_a_dead_process_are_gone(void **state)
{
	static const struct tree_new nameless = {.mode = S_IFREG | 0600};
	struct world *w = *state;
	uint64_t file = world_ino(w, "dir/child");
	struct inode out;

	assert_int_equal(tree_make_nameless(&w->tree, &nameless, &out), 0);
	tree_hold(&w->tree, out.ino);
	tree_hold(&w->tree, file);
	assert_int_equal(tree_write(&w->tree, out.ino, "x", 1, 0), 1);
	assert_int_equal(tree_write(&w->tree, file, "x", 1, 0), 1);
	assert_int_equal(tree_unlink(&w->tree, world_ino(w, "dir"), "child"), 0);
	world_crash(w);
	world_open(w);
	assert_false(world_has_content(w, out.ino));
	assert_false(world_has_content(w, file));
	assert_int_equal(tree_getattr(&w->tree, out.ino, &out), -ESTALE);
}

static void a_removed_directory_takes_nothing_more(void **state)
{
	static const struct tree_new what = {.mode = S_IFDIR | 0755};
	struct world *w = *state;
	uint64_t ino = world_ino(w, "empty");
	struct inode out;

	tree_hold(&w->tree, ino);
	assert_int_equal(tree_rmdir(&w->tree, 1, "empty"), 0);
	assert_int_equal(tree_make(&w->tree, ino, "x", &what, &out), -ENOENT);
	assert_int_equal(tree_link(&w->tree, world_ino(w, "file"), ino, "x", &out), -ENOENT);
	assert_int_equal(tree_rename(&w->tree, 1, "file", ino, "x", 0), -ENOENT);
	assert_int_equal(tree_getattr(&w->tree, ino, &out), 0);
	assert_int_equal(out.nlink, 0);
	tree_release(&w->tree, ino, 1);
	world_reopen(w);
}

static void times_that_no_record_may_tell_are_refused(void **state)
{
	static const unsigned int fields[] = {INODE_ATIME, INODE_MTIME, INODE_CTIME, INODE_MTIME | INODE_SIZE};
	static const struct timespec bad[] = {{1, 1000000000}, {1, -1}, {0, UINT32_MAX}};
	struct world *w = *state;
	struct inode out;

	for (size_t i = 0; i < ARRAY_LEN(fields) * ARRAY_LEN(bad); i++) {
		struct timespec time = bad[i % ARRAY_LEN(bad)];
		const struct tree_change change = {.fields = fields[i % ARRAY_LEN(fields)],
		                                   .attr = {.atime = time, .mtime = time, .ctime = time}};

		expect_status(tree_setattr(&w->tree, 1, &change, &out), -EINVAL, "time %zu", i);
	}
	world_reopen(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_operation_answers_as_the_kernel_does),
		TEST(names_that_no_name_can_be_are_refused),
		TEST(devices_and_targets_keep_what_they_were_made_with),
		TEST(a_base_directory_made_again_shows_no_old_children),
		TEST(names_stamp_their_directory_and_inode),
		TEST(an_orphan_lives_until_it_is_released),
		TEST(orphans_of_a_dead_process_are_gone),
		TEST(a_removed_directory_takes_nothing_more),
		TEST(times_that_no_record_may_tell_are_refused),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
