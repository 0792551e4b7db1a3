/*
 * unit_faults_tree: an operation of the tree whose system call or allocation fails changes nothing, and can be done
 * again.
 * Invariant: every tree_*() that asks the host for anything is a case here.
 * Called by meson test.
 */
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "unit.h"
#include "unit_fault_case.h"

enum { LEN = 5000 };

/* As a program does, which goes on after a short write. */
static int write_all(struct world *w, const char *path, unsigned char byte, size_t len, uint64_t offset)
{
	uint64_t ino = world_ino(w, path);
	static unsigned char bytes[OP_LEN_MAX];

	memset(bytes, byte, len);
	while (len > 0) {
		ssize_t n = tree_write(&w->tree, ino, bytes, len, offset);

		if (n < 0)
			return (int)n;
		assert_true(n > 0 && (size_t)n <= len);
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int run_op(struct world *w, const struct fault_case *c)
{
	return op_tree(w, &c->op);
}

static int run_write(struct world *w, const struct fault_case *c)
{
	return write_all(w, c->op.a, 'w', c->op.len, c->op.offset);
}

static int run_read(struct world *w, const struct fault_case *c)
{
	uint64_t ino = world_ino(w, c->op.a);
	static unsigned char bytes[OP_LEN_MAX];
	ssize_t n = tree_read(&w->tree, ino, bytes, c->op.len, c->op.offset);

	if (n >= 0)
		expect_status(n, (long)c->op.number, "bytes read of %s", c->op.a);
	return n < 0 ? (int)n : 0;
}

static int run_copy(struct world *w, const struct fault_case *c)
{
	uint64_t from = world_ino(w, c->op.a), to = world_ino(w, c->op.b);
	size_t done = 0;

	while (done < c->op.len) {
		ssize_t n =
			tree_copy_range(&w->tree, from, c->op.offset + done, to, c->op.number + done, c->op.len - done);

		if (n < 0)
			return (int)n;
		assert_true(n > 0);
		done += (size_t)n;
	}
	return 0;
}

static int run_nameless(struct world *w, const struct fault_case *c)
{
	const struct tree_new what = {.mode = S_IFREG | 0600};
	struct inode inode, out;
	int r = tree_make_nameless(&w->tree, &what, &inode);

	if (r < 0)
		return r;
	r = tree_hold(&w->tree, inode.ino);
	if (r == 0)
		r = tree_link(&w->tree, inode.ino, 1, c->op.a, &out);
	tree_release(&w->tree, inode.ino, 1);
	return r;
}

/* A file without names that is open: what is done with it is done, and its end leaves nothing. */
static int run_orphan(struct world *w, const struct fault_case *c)
{
	uint64_t ino;
	struct inode found;
	int r = world_find(w, c->op.a, &found);

	if (r < 0)
		return 0; /* the second time */
	ino = found.ino;
	r = tree_hold(&w->tree, ino);
	if (r < 0)
		return r;
	r = tree_unlink(&w->tree, 1, c->op.a);
	tree_release(&w->tree, ino, 1);
	return r;
}

static int run_setattr(struct world *w, const struct fault_case *c)
{
	struct tree_change change = {.fields = (unsigned int)c->op.number};
	struct inode out;

	change.attr = (struct inode){.mode = 0600, .uid = 7, .gid = 8, .size = c->op.len};
	change.attr.atime = change.attr.mtime = change.attr.ctime = (struct timespec){.tv_sec = 1000000};
	return tree_setattr(&w->tree, world_ino(w, c->op.a), &change, &out);
}

static int run_setxattr(struct world *w, const struct fault_case *c)
{
	return tree_setxattr(&w->tree, world_ino(w, c->op.a), "user.b", "more", 4, 0);
}

static int run_removexattr(struct world *w, const struct fault_case *c)
{
	int r = tree_removexattr(&w->tree, world_ino(w, c->op.a), "user.a");

	return r == -ENODATA ? 0 : r;
}

static int run_fsync(struct world *w, const struct fault_case *c)
{
	return tree_fsync(&w->tree, world_ino(w, c->op.a));
}

static int run_statfs(struct world *w, const struct fault_case *c)
{
	struct statvfs out;

	return tree_statfs(&w->tree, &out);
}

static int run_seek(struct world *w, const struct fault_case *c)
{
	int64_t at = tree_lseek(&w->tree, world_ino(w, c->op.a), c->op.offset, (int)c->op.number);

	return at < 0 ? (int)at : 0;
}

static int run_sync(struct world *w, const struct fault_case *c)
{
	return session_sync(&w->store->session);
}

/* More files being written than there is room to remember. */
static void prepare_many(struct world *w, const struct fault_case *c)
{
	char name[16];
	struct op op = {OP_MKFILE, name, NULL, 0, 0, 1};

	for (unsigned int i = w->store->session.n_dirty; i < SESSION_DIRTY_MAX; i++) {
		snprintf(name, sizeof(name), "many%u", i);
		op.kind = OP_MKFILE;
		expect_status(op_tree(w, &op), 0, "%s", name);
		op.kind = OP_WRITE;
		expect_status(op_tree(w, &op), 0, "%s", name);
	}
	assert_int_equal(w->store->session.n_dirty, SESSION_DIRTY_MAX);
}

static void prepare_open_no_more(struct world *w, const struct fault_case *c)
{
	handles_drop_layer(w->store->session.handles, stack_top(&w->store->session.stack)->id);
}

static const struct fault_case name_cases[] = {
	{"mkdir", NULL, run_op, {OP_MKDIR, "dir/x", NULL, 0, 0, 0}},
	{"make a file", NULL, run_op, {OP_MKFILE, "fresh/x", NULL, 0, 0, 0}},
	{"make a fifo", NULL, run_op, {OP_MKFIFO, "x", NULL, 0, 0, 0}},
	{"symlink", NULL, run_op, {OP_SYMLINK, "dir/x", "target", 0, 0, 0}},
	{"link", NULL, run_op, {OP_LINK, "below", "dir/x", 0, 0, 0}},
	{"make a nameless file and link it", NULL, run_nameless, {OP_MKFILE, "x", NULL, 0, 0, 0}},
	{"unlink a file of the base", NULL, run_op, {OP_UNLINK, "file", NULL, 0, 0, 0}},
	{"unlink a file with content", NULL, run_op, {OP_UNLINK, "clean", NULL, 0, 0, 0}},
	{"unlink a file being written", NULL, run_op, {OP_UNLINK, "dirty", NULL, 0, 0, 0}},
	{"unlink an open file", NULL, run_orphan, {OP_UNLINK, "dirty", NULL, 0, 0, 0}},
	{"rmdir of the base", NULL, run_op, {OP_RMDIR, "empty", NULL, 0, 0, 0}},
	{"rmdir", NULL, run_op, {OP_RMDIR, "fresh", NULL, 0, 0, 0}},
	{"rename", NULL, run_op, {OP_RENAME, "dir", "fresh/dir", 0, 0, 0}},
	{"rename over a file", NULL, run_op, {OP_RENAME, "file", "clean", 0, 0, 0}},
	{"rename with exchange", NULL, run_op, {OP_RENAME, "dir/sub", "below", RENAME_EXCHANGE, 0, 0}},
};

static const struct fault_case attribute_cases[] = {
	{"chmod", NULL, run_op, {OP_CHMOD, "file", NULL, 0600, 0, 0}},
	{"chown", NULL, run_op, {OP_CHOWN, "dirty", NULL, 5 << 16 | 6, 0, 0}},
	{"set times of a file of the base",
         NULL,
         run_setattr,
         {OP_CHMOD, "file", NULL, INODE_ATIME | INODE_MTIME, 0, 0}},
	{"set times of a file being written",
         NULL,
         run_setattr,
         {OP_CHMOD, "dirty", NULL, INODE_ATIME | INODE_MTIME, 0, 0}},
	{"set size and times", NULL, run_setattr, {OP_CHMOD, "big", NULL, INODE_SIZE | INODE_MTIME, 0, 100}},
	{"set an attribute", NULL, run_setxattr, {OP_CHMOD, "below", NULL, 0, 0, 0}},
	{"set an attribute of a file of the base", NULL, run_setxattr, {OP_CHMOD, "file", NULL, 0, 0, 0}},
	{"remove an attribute", NULL, run_removexattr, {OP_CHMOD, "below", NULL, 0, 0, 0}},
};

/* The others are told first, and a disk that fails does not take them back. */
static const struct fault_case size_and_more_cases[] = {
	{"set size and mode of a file of the base",
         NULL,
         run_setattr,
         {OP_CHMOD, "big", NULL, INODE_SIZE | INODE_MODE, 0, 10}},
	{"set size and owner",
         NULL,
         run_setattr,
         {OP_CHMOD, "clean", NULL, INODE_SIZE | INODE_UID | INODE_GID, 0, 9000}},
	{"set size and access time of a file being written",
         NULL,
         run_setattr,
         {OP_CHMOD, "dirty", NULL, INODE_SIZE | INODE_ATIME, 0, 10}},
	{"set size and owner of a file in part",
         NULL,
         run_setattr,
         {OP_CHMOD, "parts", NULL, INODE_SIZE | INODE_UID, 0, 9000}},
};

static const struct fault_case write_cases[] = {
	{"write to a file of the base", NULL, run_write, {OP_WRITE, "big", NULL, 0, 100, LEN}},
	{"write to a file of a layer below", NULL, run_write, {OP_WRITE, "below", NULL, 0, LEN, LEN}},
	{"write to a file", NULL, run_write, {OP_WRITE, "clean", NULL, 0, 10, LEN}},
	{"write to a file being written", NULL, run_write, {OP_WRITE, "dirty", NULL, 0, 10, LEN}},
	{"write to a file that was closed", prepare_open_no_more, run_write, {OP_WRITE, "dirty", NULL, 0, 10, LEN}},
	{"write to an empty file", NULL, run_write, {OP_WRITE, "new", NULL, 0, 10, LEN}},
	{"write whole units of a file of the base", NULL, run_write, {OP_WRITE, "big", NULL, 0, 4096, 8192}},
	{"write to a part that is there", NULL, run_write, {OP_WRITE, "parts", NULL, 0, 5000, 100}},
	{"write to a part that is below", NULL, run_write, {OP_WRITE, "parts", NULL, 0, 21000, 100}},
	{"write units that are below", NULL, run_write, {OP_WRITE, "parts", NULL, 0, 12000, 9000}},
	{"write over parts here and below", NULL, run_write, {OP_WRITE, "parts", NULL, 0, 100, 9000}},
	{"write over the end of what is below", NULL, run_write, {OP_WRITE, "parts", NULL, 0, 29000, 9000}},
};

static const struct fault_case size_cases[] = {
	{"cut a file of the base", NULL, run_op, {OP_TRUNCATE, "big", NULL, 0, 1000, 0}},
	{"cut a file of a layer below", NULL, run_op, {OP_TRUNCATE, "below", NULL, 0, 1000, 0}},
	{"empty a file of the base", NULL, run_op, {OP_TRUNCATE, "big", NULL, 0, 0, 0}},
	{"extend a file of the base", NULL, run_op, {OP_TRUNCATE, "big", NULL, 0, 40000, 0}},
	{"cut a file", NULL, run_op, {OP_TRUNCATE, "clean", NULL, 0, 1000, 0}},
	{"cut a file being written", NULL, run_op, {OP_TRUNCATE, "dirty", NULL, 0, 1000, 0}},
	{"extend an empty file", NULL, run_op, {OP_TRUNCATE, "new", NULL, 0, 1000, 0}},
	{"empty an empty file", NULL, run_op, {OP_TRUNCATE, "new", NULL, 0, 0, 0}},
	{"punch a hole", NULL, run_op, {OP_PUNCH, "big", NULL, 0, 4096, 8192}},
	{"punch a hole in parts", NULL, run_op, {OP_PUNCH, "parts", NULL, 0, 4096, 8192}},
	{"cut a file in part", NULL, run_op, {OP_TRUNCATE, "parts", NULL, 0, 15000, 0}},
	{"extend a file in part", NULL, run_op, {OP_TRUNCATE, "parts", NULL, 0, 35000, 0}},
};

static const struct fault_case copy_cases[] = {
	{"copy to a file of the base", NULL, run_copy, {OP_COPY, "below", "big", 100, 50, LEN}},
	{"copy from the base", NULL, run_copy, {OP_COPY, "big", "clean", 100, 50, LEN}},
	{"copy from a file in part", NULL, run_copy, {OP_COPY, "parts", "clean", 100, 50, 3000}},
	{"copy to a file in part", NULL, run_copy, {OP_COPY, "big", "parts", 20000, 50, LEN}},
	{"copy within a file", NULL, run_copy, {OP_COPY, "big", "big", 20000, 0, LEN}},
};

static const struct fault_case read_cases[] = {
	{"read a file of the base", NULL, run_read, {OP_WRITE, "big", NULL, LEN, 100, LEN}},
	{"read a file of a layer below", NULL, run_read, {OP_WRITE, "below", NULL, 1000, LEN, LEN}},
	{"read a file", prepare_open_no_more, run_read, {OP_WRITE, "clean", NULL, 4900, 100, LEN}},
	{"read a file being written", prepare_open_no_more, run_read, {OP_WRITE, "dirty", NULL, 4900, 100, LEN}},
	{"read a file in part", prepare_open_no_more, run_read, {OP_WRITE, "parts", NULL, 25000, 100, 25000}},
	{"seek in a file in part", NULL, run_seek, {OP_WRITE, "parts", NULL, SEEK_HOLE, 100, 0}},
	{"seek data", NULL, run_seek, {OP_WRITE, "big", NULL, SEEK_DATA, 100, 0}},
	{"statfs", NULL, run_statfs, {OP_WRITE, "", NULL, 0, 0, 0}},
	{"fsync", NULL, run_fsync, {OP_WRITE, "dirty", NULL, 0, 0, 0}},
	{"fsync of a file of the base", NULL, run_fsync, {OP_WRITE, "big", NULL, 0, 0, 0}},
	{"sync", NULL, run_sync, {OP_WRITE, "", NULL, 0, 0, 0}},
};

static const struct fault_case many_cases[] = {
	{"write to one file too many", prepare_many, run_write, {OP_WRITE, "new", NULL, 0, 10, LEN}},
	{"sync of many", prepare_many, run_sync, {OP_WRITE, "", NULL, 0, 0, 0}},
};

static void try_all(const struct fault_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		fault_try(&cases[i]);
}

static void a_change_of_names_that_fails_changes_nothing(void **state)
{
	try_all(name_cases, ARRAY_LEN(name_cases));
}

static void a_change_of_attributes_that_fails_changes_nothing(void **state)
{
	try_all(attribute_cases, ARRAY_LEN(attribute_cases));
	for (size_t i = 0; i < ARRAY_LEN(size_and_more_cases); i++)
		fault_try_told(&size_and_more_cases[i]);
}

static void a_write_that_fails_changes_nothing(void **state)
{
	try_all(write_cases, ARRAY_LEN(write_cases));
}

static void a_change_of_size_that_fails_changes_nothing(void **state)
{
	try_all(size_cases, ARRAY_LEN(size_cases));
}

static void a_copy_that_fails_changes_nothing(void **state)
{
	try_all(copy_cases, ARRAY_LEN(copy_cases));
}

static void a_read_or_sync_that_fails_says_so(void **state)
{
	try_all(read_cases, ARRAY_LEN(read_cases));
}

static void a_run_of_many_files_that_does_not_end_is_ended_later(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(many_cases); i++)
		fault_try_some(&many_cases[i], 37);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_change_of_names_that_fails_changes_nothing),
		cmocka_unit_test(a_change_of_attributes_that_fails_changes_nothing),
		cmocka_unit_test(a_write_that_fails_changes_nothing),
		cmocka_unit_test(a_change_of_size_that_fails_changes_nothing),
		cmocka_unit_test(a_copy_that_fails_changes_nothing),
		cmocka_unit_test(a_read_or_sync_that_fails_says_so),
		cmocka_unit_test(a_run_of_many_files_that_does_not_end_is_ended_later),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
