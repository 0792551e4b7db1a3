/*
 * unit_powercut_removed: what is left of files that were removed, or replaced, when the host goes down a moment later.
 * Invariant: the journal is cut to what the host was last told to sync; what was removed from the session's folder is gone.
 * Called by meson test.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mark.h"
#include "removals.h"
#include "unit.h"
#include "unit_image.h"
#include "unit_op.h"

enum { BYTES = 1000 };

#define JOURNAL "layers/1/journal"

static size_t synced; /* bytes of the journal */

/* In place of libc's. */
int fdatasync(int fd)
{
	char link[32], path[256];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	if (strstr(path, "/" JOURNAL))
		synced = (size_t)lseek(fd, 0, SEEK_END);
	return (int)syscall(SYS_fdatasync, fd);
}

static int setup(void **state)
{
	return image_start(state, NULL);
}

static void make(struct crashed *c, const char *path, char byte)
{
	image_make(c, path);
	image_write(c, path, byte, BYTES, 0);
}

static void sync_file(struct crashed *c, const char *path)
{
	expect_status(tree_fsync(&c->w.tree, world_ino(&c->w, path)), 0, "fsync of %s", path);
}

static void change(struct crashed *c, enum op_kind kind, const char *a, const char *b)
{
	const struct op op = {kind, a, b, 0, 0, 0};

	expect_status(op_tree(&c->w, &op), 0, "%s of %s", op_name(kind), a);
}

/* The host goes down: what the journal has of the time after its last sync never came to the disk. */
static void go_down(struct crashed *c, const char *when)
{
	image_take(c);
	image_put(c, true);
	image_part(c, JOURNAL, synced);
	image_open_after_boot(c, when);
}

/* The file is there and all of it is this letter. */
static bool is(struct crashed *c, const char *path, char byte)
{
	char bytes[2 * BYTES];
	struct inode inode;

	if (world_find(&c->w, path, &inode) < 0 || tree_read(&c->w.tree, inode.ino, bytes, sizeof(bytes), 0) != BYTES)
		return false;
	for (unsigned int i = 0; i < BYTES; i++) {
		if (bytes[i] != byte)
			return false;
	}
	return true;
}

static bool is_gone(struct crashed *c, const char *path)
{
	struct inode inode;

	return world_find(&c->w, path, &inode) == -ENOENT;
}

static void start_thread(struct crashed *c)
{
	expect_status(removals_new(c->w.store->session.layersfd, &c->w.store->session.removals), 0, "the thread");
}

static void end_thread(struct crashed *c)
{
	removals_free(c->w.store->session.removals);
	c->w.store->session.removals = NULL;
}

/* One file replaces another, and a third goes; all were synced, or (reopened) were there when the session was opened. */
static void replace_and_remove(struct crashed *c, bool thread, bool reopened)
{
	char content[2][64];

	make(c, "kept", 'k');
	make(c, "new", 'n');
	make(c, "gone", 'g');
	if (reopened)
		world_reopen(&c->w);
	if (thread)
		start_thread(c);
	image_content_path(c, "kept", content[0]);
	image_content_path(c, "gone", content[1]);
	sync_file(c, "new");
	if (!reopened) {
		sync_file(c, "kept");
		sync_file(c, "gone");
	}
	change(c, OP_RENAME, "new", "kept");
	change(c, OP_UNLINK, "gone", NULL);
	if (thread)
		end_thread(c);
	for (unsigned int i = 0; i < 2; i++)
		assert_false(image_has(c, content[i]));
	go_down(c, "replaced and removed");
	assert_true(is(c, "kept", 'n'));
	assert_true(is_gone(c, "gone"));
}

static void no_name_is_left_without_what_fsync_promised(void **state)
{
	replace_and_remove(*state, false, false);
}

static void no_name_is_left_without_it_by_the_thread_that_removes(void **state)
{
	replace_and_remove(*state, true, false);
}

static void no_name_is_left_without_what_was_there_before(void **state)
{
	replace_and_remove(*state, false, true);
}

static void no_name_is_left_without_it_by_the_thread_either(void **state)
{
	replace_and_remove(*state, true, true);
}

/* What a change of its attributes tells of it is no reason to forget that it was synced. */
static void a_file_that_was_changed_since_it_was_synced_counts_as_before(void **state)
{
	struct crashed *c = *state;

	make(c, "gone", 'g');
	sync_file(c, "gone");
	image_write(c, "gone", 'h', 10, 0);
	change(c, OP_CHMOD, "gone", NULL);
	change(c, OP_RENAME, "gone", "renamed");
	change(c, OP_UNLINK, "renamed", NULL);
	go_down(c, "changed and removed");
	assert_true(is_gone(c, "renamed") && is_gone(c, "gone"));
}

/* More than the thread takes at once, and nobody waits for it. */
static void many_that_go_at_once_are_as_safe(void **state)
{
	enum { MANY = 700 };
	struct crashed *c = *state;
	char name[16];

	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		make(c, name, 'f');
	}
	world_reopen(&c->w);
	start_thread(c);
	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		change(c, OP_UNLINK, name, NULL);
	}
	end_thread(c);
	go_down(c, "many removed");
	for (unsigned int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%u", i);
		assert_true(is_gone(c, name));
	}
}

/* The daemon was killed while somebody had the removed file open, and the host goes down after the next mount. */
static void what_the_next_mount_removes_is_no_exception(void **state)
{
	struct crashed *c = *state;
	char content[64];

	make(c, "gone", 'g');
	sync_file(c, "gone");
	image_content_path(c, "gone", content);
	assert_int_equal(tree_hold(&c->w.tree, world_ino(&c->w, "gone")), 0);
	change(c, OP_UNLINK, "gone", NULL);
	session_mark(&c->w.store->session);
	world_crash(&c->w);
	assert_true(image_has(c, content));
	world_open(&c->w);
	assert_false(image_has(c, content));
	go_down(c, "removed by the next mount");
	assert_true(is_gone(c, "gone"));
}

/* The host may do with it what it likes. */
static void what_nobody_synced_costs_no_sync(void **state)
{
	struct crashed *c = *state;
	size_t before;

	start_thread(c);
	make(c, "kept", 'k');
	make(c, "gone", 'g');
	sync_file(c, "kept");
	before = synced;
	change(c, OP_UNLINK, "gone", NULL);
	end_thread(c);
	assert_int_equal(synced, before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, image_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(no_name_is_left_without_what_fsync_promised),
		TEST(no_name_is_left_without_it_by_the_thread_that_removes),
		TEST(no_name_is_left_without_what_was_there_before),
		TEST(no_name_is_left_without_it_by_the_thread_either),
		TEST(a_file_that_was_changed_since_it_was_synced_counts_as_before),
		TEST(many_that_go_at_once_are_as_safe),
		TEST(what_the_next_mount_removes_is_no_exception),
		TEST(what_nobody_synced_costs_no_sync),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
