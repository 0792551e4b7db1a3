/*
 * unit_scan: promises of scan_tree.
 * Invariant: readdir(3) is this file's own, so that a test decides the order in which directories are read.
 * Called by meson test.
 */
#include "scan.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "index.h"
#include "io.h"
#include "unit.h"
#include "unit_place.h"

static bool backwards;

/* Hands out a directory's entries last first when a test wants that; one directory at a time, as scan reads them. */
struct dirent *readdir(DIR *dir)
{
	static struct dirent *(*real)(DIR *);
	static struct dirent held[64];
	static DIR *holding;
	static size_t n;
	struct dirent *entry;

	if (!real)
		*(void **)&real =
			dlsym(RTLD_NEXT, sizeof(off_t) == sizeof(long) && sizeof(long) == 8 ? "readdir" : "readdir64");
	if (!backwards)
		return real(dir);
	if (holding != dir) {
		holding = dir;
		for (n = 0; n < ARRAY_LEN(held) && (entry = real(dir)); n++)
			memcpy(&held[n], entry, entry->d_reclen < sizeof(held[n]) ? entry->d_reclen : sizeof(held[n]));
	}
	if (n == 0)
		holding = NULL;
	return n > 0 ? &held[--n] : NULL;
}

static int setup(void **state)
{
	struct place *p = malloc(sizeof(*p));
	char name[256];

	place_make(p);
	assert_int_equal(mkdirat(p->fd, "base", 0755), 0);
	assert_int_equal(mkdirat(p->fd, "base/dir", 01777), 0);
	assert_int_equal(mkdirat(p->fd, "base/dir/sub", 0700), 0);
	for (char c = 'a'; c < 'k'; c++) {
		snprintf(name, sizeof(name), "base/dir/%c", c);
		place_put(p->fd, name, name, strlen(name));
	}
	place_put(p->fd, "base/dir/sub/file", "file", 4);
	assert_int_equal(linkat(p->fd, "base/dir/sub/file", p->fd, "base/hard", 0), 0);
	assert_int_equal(linkat(p->fd, "base/dir/sub/file", p->fd, "base/dir/hard", 0), 0);
	assert_int_equal(symlinkat("to \xff", p->fd, "base/link"), 0);
	assert_int_equal(mknodat(p->fd, "base/fifo", S_IFIFO | 0640, 0), 0);
	place_put(p->fd, "base/not \xff\xfe UTF-8\n", "x", 1);
	snprintf(name, sizeof(name), "base/%0250d", 7);
	place_put(p->fd, name, "x", 1);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	backwards = false;
	place_remove(*state);
	free(*state);
	return 0;
}

static void scan(struct place *p, uid_t uid, gid_t gid, const char *name)
{
	int base = openat(p->fd, "base", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = openat(p->fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	expect_status(scan_tree(base, "label", uid, gid, fd, &p->log), 0, "scanning: %s", p->lines);
	close(fd);
	close(base);
}

static struct inode scanned(struct place *p, const char *name, const char *in_root)
{
	struct index *ix;
	struct inode out;
	uint64_t ino;

	assert_int_equal(index_open(p->fd, name, name, &p->log, &ix), 0);
	assert_true(index_scanned(ix));
	assert_int_equal(index_lookup(ix, 1, in_root, strlen(in_root), &ino), 0);
	assert_int_equal(index_inode(ix, ino, &out), 0);
	index_free(ix);
	return out;
}

static void the_same_tree_gives_the_same_bytes_in_any_order(void **state)
{
	struct place *p = *state;
	unsigned char *want, *got;
	size_t want_len, len;

	scan(p, geteuid(), getegid(), "want");
	want = place_get(p->fd, "want", &want_len);
	for (unsigned int round = 0; round < 2; round++) {
		scan(p, geteuid(), getegid(), "got");
		got = place_get(p->fd, "got", &len);
		assert_int_equal(len, want_len);
		assert_memory_equal(got, want, len);
		free(got);
		backwards = true;
	}
	free(want);
	assert_int_equal(p->n_errors + p->n_warnings, 0);
}

static void what_the_caller_owns_belongs_to_root(void **state)
{
	struct place *p = *state;
	struct stat st;
	struct inode i;

	assert_int_equal(fstatat(p->fd, "base/fifo", &st, 0), 0);
	scan(p, st.st_uid, st.st_gid, "mine");
	i = scanned(p, "mine", "fifo");
	assert_true(i.uid == 0 && i.gid == 0);
	scan(p, st.st_uid + 1, st.st_gid, "group");
	i = scanned(p, "group", "fifo");
	assert_true(i.uid == st.st_uid && i.gid == 0);
	scan(p, st.st_uid, st.st_gid + 1, "user");
	i = scanned(p, "user", "fifo");
	assert_true(i.uid == 0 && i.gid == st.st_gid);
	if (geteuid() != 0)
		return;
	assert_int_equal(fchownat(p->fd, "base/link", 77, 88, AT_SYMLINK_NOFOLLOW), 0);
	scan(p, 77, 1234, "other");
	i = scanned(p, "other", "link");
	assert_true(i.uid == 0 && i.gid == 88);
	scan(p, 1234, 88, "other");
	i = scanned(p, "other", "link");
	assert_true(i.uid == 77 && i.gid == 0);
}

static void an_inode_is_what_stat_says(void **state)
{
	static const char *const names[] = {"dir", "hard", "link", "fifo", "not \xff\xfe UTF-8\n"};
	struct place *p = *state;
	char path[64];

	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		const struct timespec times[2] = {{1, 2}, {(time_t)n * 1000, 999999999}};

		snprintf(path, sizeof(path), "base/%s", names[n]);
		assert_int_equal(utimensat(p->fd, path, times, AT_SYMLINK_NOFOLLOW), 0);
	}
	scan(p, geteuid(), getegid(), "index");
	for (size_t n = 0; n < ARRAY_LEN(names); n++) {
		struct inode i = scanned(p, "index", names[n]);
		struct stat st;

		snprintf(path, sizeof(path), "base/%s", names[n]);
		assert_int_equal(fstatat(p->fd, path, &st, AT_SYMLINK_NOFOLLOW), 0);
		assert_int_equal(i.mode, st.st_mode);
		assert_int_equal(i.nlink, st.st_nlink);
		assert_int_equal(i.size, st.st_size);
		assert_memory_equal(&i.mtime, &st.st_mtim, sizeof(i.mtime));
		assert_memory_equal(&i.ctime, &st.st_mtim, sizeof(i.ctime)); /* st_ctim cannot be restored */
	}
}

/* The host may move a file's blocks, or write back late, at any time: that is no change of the base. */
static void how_the_host_keeps_a_file_does_not_matter(void **state)
{
	struct place *p = *state;
	struct inode full, sparse;
	int fd = openat(p->fd, "base/sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(ftruncate(fd, 50000), 0);
	close(fd);
	place_put(p->fd, "base/full", memset((char[50000]){0}, 'f', 50000), 50000);
	scan(p, geteuid(), getegid(), "index");
	full = scanned(p, "index", "full");
	sparse = scanned(p, "index", "sparse");
	assert_int_equal(sparse.blocks, full.blocks);
}

static void extended_attributes_are_taken_along(void **state)
{
	struct place *p = *state;
	struct index *ix;
	struct xattr_set set;
	const void *value;
	char path[200];
	uint64_t ino;

	snprintf(path, sizeof(path), "%s/base/hard", p->path);
	if (lsetxattr(path, "user.test", "a value", 7, 0) < 0) {
		print_message("the file system has no user attributes\n");
		skip();
	}
	scan(p, geteuid(), getegid(), "index");
	assert_int_equal(index_open(p->fd, "index", "index", &p->log, &ix), 0);
	assert_int_equal(index_lookup(ix, 1, "hard", 4, &ino), 0);
	assert_int_equal(index_xattrs(ix, ino, &set), 0);
	assert_int_equal(xattr_set_get(set, "user.test", &value), 7);
	assert_memory_equal(value, "a value", 7);
	index_free(ix);
}

static void paths_longer_than_the_kernel_takes_are_read(void **state)
{
	struct place *p = *state;
	int at = openat(p->fd, "base", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct index *ix;
	uint64_t last;
	char name[200], *path;
	int fd;

	memset(name, 'n', sizeof(name));
	name[199] = '\0';
	for (unsigned int depth = 0; depth < 50; depth++) {
		int next;

		assert_int_equal(mkdirat(at, name, 0755), 0);
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = next;
	}
	place_put(at, "last", "deep", 4);
	close(at);
	scan(p, geteuid(), getegid(), "index");
	assert_int_equal(index_open(p->fd, "index", "index", &p->log, &ix), 0);
	last = index_n_inodes(ix);
	assert_int_equal(index_path(ix, last, &path), 0);
	assert_int_equal(strlen(path), 50 * 200 + 4);
	at = openat(p->fd, "base", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = io_open_beneath(at, path, O_RDONLY, 0);
	expect_status(fd < 0 ? fd : 0, 0, "opening the deepest file");
	close(fd);
	close(at);
	free(path);
	index_free(ix);
}

/* A file with two names, in a file system of its own, and its first name again in the base. */
static uint64_t mount_file(struct place *p, const char *name)
{
	char dir[200], file[256], on[256];
	struct stat st;

	snprintf(dir, sizeof(dir), "%s/%s", p->path, name);
	snprintf(file, sizeof(file), "%s/file", dir);
	snprintf(on, sizeof(on), "%s/base/%s", p->path, name);
	assert_int_equal(mkdir(dir, 0755), 0);
	assert_int_equal(mount("tmpfs", dir, "tmpfs", 0, NULL), 0);
	place_put(AT_FDCWD, file, name, strlen(name));
	place_put(p->fd, on + strlen(p->path) + 1, "", 0);
	assert_int_equal(mount(file, on, "none", MS_BIND, NULL), 0);
	snprintf(on, sizeof(on), "%s/again", dir);
	assert_int_equal(link(file, on), 0);
	assert_int_equal(stat(file, &st), 0);
	return st.st_ino;
}

static void files_of_two_file_systems_are_no_hard_links(void **state)
{
	struct place *p = *state;
	struct inode one, other;
	char path[200];
	bool same;

	if (unshare(CLONE_NEWNS) < 0) {
		print_message("only root may mount\n");
		skip();
	}
	assert_int_equal(mount(NULL, "/", "none", MS_REC | MS_PRIVATE, NULL), 0);
	close(p->fd); /* leads where nothing is mounted */
	p->fd = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	same = mount_file(p, "one") == mount_file(p, "other");
	scan(p, geteuid(), getegid(), "index");
	one = scanned(p, "index", "one");
	other = scanned(p, "index", "other");
	for (unsigned int n = 0; n < 4; n++) {
		snprintf(path, sizeof(path), "%s/%s%s", p->path, n < 2 ? "base/" : "", n % 2 ? "one" : "other");
		assert_int_equal(umount(path), 0);
	}
	assert_true(same);
	assert_int_not_equal(one.ino, other.ino);
	assert_int_equal(one.size, 3);
	assert_int_equal(other.size, 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(the_same_tree_gives_the_same_bytes_in_any_order),
		TEST(what_the_caller_owns_belongs_to_root),
		TEST(an_inode_is_what_stat_says),
		TEST(how_the_host_keeps_a_file_does_not_matter),
		TEST(extended_attributes_are_taken_along),
		TEST(paths_longer_than_the_kernel_takes_are_read),
		TEST(files_of_two_file_systems_are_no_hard_links),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
