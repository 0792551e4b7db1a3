/*
 * unit_model: random operations on a session and on a host directory give the same results and the same
 * trees.
 * Invariant: the seed decides everything; a failure prints it with the last operations.
 * Called by meson test; UMLFS_MODEL_OPS and UMLFS_MODEL_SEED choose.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"
#include "io.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

enum { OPS = 4000, LAST = 24, LINE = 2 * OP_PATH_MAX, SLOTS = 4, SNAPSHOTS = 5 };

static void fill_base(int basefd)
{
	static unsigned char big[30000];

	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (unsigned char)(i * 11 + i / 999);
	place_put(basefd, "a", "a file of the base", 18);
	place_put(basefd, "b", big, sizeof(big));
	assert_int_equal(mkdirat(basefd, "c", 0755), 0);
	assert_int_equal(mkdirat(basefd, "c/a", 0755), 0);
	assert_int_equal(mkdirat(basefd, "c/a/b", 0700), 0);
	place_put(basefd, "c/a/b/c", "deep", 4);
	assert_int_equal(linkat(basefd, "b", basefd, "c/b", 0), 0);
	assert_int_equal(symlinkat("c/a", basefd, "d"), 0);
	assert_int_equal(mkdirat(basefd, "e", 0755), 0);
}

/* A file that is open on both sides, whatever becomes of its names. */
struct slot {
	int fd; /* -1: empty */
	uint64_t ino;
};

struct model {
	struct world w;
	struct unit_random random;
	uint64_t seed, n_ops;
	char host[200];
	int hostfd;
	struct slot slots[SLOTS];
	bool snapshots[SNAPSHOTS]; /* which of s0 .. s4 exist; the host's copies are host-s0 .. */
	char last[LAST][LINE];
};

/* Picks one entry of a directory, each as likely as the other. */
struct pick {
	struct unit_random *random;
	uint64_t n, ino;
	char name[FORMAT_NAME_MAX + 1];
};

static int pick_entry(void *arg, const struct stack_entry *entry)
{
	struct pick *pick = arg;

	if (entry->cookie >= STACK_COOKIE_FIRST && unit_random(pick->random, ++pick->n) == 0) {
		snprintf(pick->name, sizeof(pick->name), "%.*s", (int)entry->name_len, entry->name);
		pick->ino = entry->ino;
	}
	return 0;
}

/* A random path of at most four names, two of three of them names that are there. */
static const char *random_path(struct model *m, char path[OP_PATH_MAX])
{
	static const char *const names[] = {"a", "b", "c", "d", "e", "\xff\xfe", "f g"};
	struct pick pick = {.random = &m->random, .ino = FORMAT_ROOT_INO};
	size_t used = 0;

	for (unsigned int depth = 0; depth < 4; depth++) {
		uint64_t dir = pick.ino;

		pick.n = 0;
		if (dir && unit_random(&m->random, 3))
			tree_readdir(&m->w.tree, dir, 0, pick_entry, &pick);
		if (pick.n == 0) {
			pick.ino = 0;
			snprintf(pick.name, sizeof(pick.name), "%s", names[unit_random(&m->random, ARRAY_LEN(names))]);
		}
		used += (size_t)snprintf(path + used, OP_PATH_MAX - used, "%s%s", depth ? "/" : "", pick.name);
		if (unit_random(&m->random, 3) == 0)
			break;
	}
	return path;
}

static struct op random_op(struct model *m, char a[OP_PATH_MAX], char b[OP_PATH_MAX])
{
	static const enum op_kind kinds[] = {
		OP_MKDIR, OP_MKDIR,  OP_MKDIR,  OP_MKFILE,   OP_MKFILE, OP_MKFIFO, OP_SYMLINK, OP_LINK,
		OP_LINK,  OP_UNLINK, OP_UNLINK, OP_RMDIR,    OP_RENAME, OP_RENAME, OP_RENAME,  OP_RENAME,
		OP_WRITE, OP_WRITE,  OP_WRITE,  OP_TRUNCATE, OP_PUNCH,  OP_COPY,   OP_CHMOD,   OP_CHOWN,
	};
	static const unsigned int flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
	struct op op = {.kind = kinds[unit_random(&m->random, ARRAY_LEN(kinds))]};

	op.a = random_path(m, a);
	op.b = random_path(m, b);
	op.number = unit_random(&m->random, 40000);
	op.offset = unit_random(&m->random, 40000);
	op.len = (size_t)unit_random(&m->random, 9000) + 1;
	if (op.kind == OP_RENAME)
		op.number = flags[unit_random(&m->random, ARRAY_LEN(flags))];
	if (op.kind == OP_CHMOD)
		op.number = 0700 | unit_random(&m->random, 0100);
	if (op.kind == OP_CHOWN)
		op.number = unit_random(&m->random, 3) << 16 | unit_random(&m->random, 3);
	if (op.kind == OP_CHOWN && geteuid() != 0)
		op.number = (uint64_t)geteuid() << 16 | getegid(); /* nobody else may */
	return op;
}

static void say_last(struct model *m)
{
	print_error("UMLFS_MODEL_SEED=%" PRIu64 " UMLFS_MODEL_OPS=%" PRIu64 "; the last operations:\n", m->seed,
	            m->n_ops + 1);
	for (uint64_t i = m->n_ops < LAST ? 0 : m->n_ops + 1 - LAST; i <= m->n_ops; i++)
		print_error("  %" PRIu64 ": %s\n", i, m->last[i % LAST]);
	print_error("%s", m->w.place.lines);
}

static void expect_same(struct model *m, const char *when)
{
	char *want = dump_host(m->host);
	char *got = dump_world(&m->w, DUMP_PLAIN);

	if (strcmp(got, want) != 0) {
		say_last(m);
		dump_expect(got, want, when);
	}
	free(got);
	free(want);
}

static void open_slot(struct model *m, struct slot *slot, const char *path)
{
	const struct op unlink_op = {OP_UNLINK, path, NULL, 0, 0, 0};
	struct inode inode;

	if (world_find(&m->w, path, &inode) < 0 || !S_ISREG(inode.mode))
		return;
	slot->fd = io_open_beneath(m->hostfd, path, O_RDWR, 0);
	assert_true(slot->fd >= 0);
	slot->ino = inode.ino;
	assert_int_equal(tree_hold(&m->w.tree, inode.ino), 0);
	if (unit_random(&m->random, 2))
		expect_status(op_tree(&m->w, &unlink_op), op_host(m->hostfd, &unlink_op), "unlinking %s", path);
}

static void close_slots(struct model *m)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		if (m->slots[i].fd < 0)
			continue;
		close(m->slots[i].fd);
		m->slots[i].fd = -1;
		tree_release(&m->w.tree, m->slots[i].ino, 1);
	}
}

/* Opens (and maybe unlinks), reads, writes or closes one of the open files. */
static void use_slot(struct model *m)
{
	struct slot *slot = &m->slots[unit_random(&m->random, SLOTS)];
	unsigned char got[600], want[600];
	uint64_t what = unit_random(&m->random, 8), at = unit_random(&m->random, 3000);
	char path[OP_PATH_MAX];
	ssize_t n;

	random_path(m, path);
	snprintf(m->last[m->n_ops % LAST], LINE, "slot %d: %" PRIu64 " at %" PRIu64 " (inode %" PRIu64 "), or open %s",
	         (int)(slot - m->slots), what, at, slot->fd < 0 ? 0 : slot->ino, path);
	if (slot->fd < 0) {
		open_slot(m, slot, path);
	} else if (what == 0) {
		close(slot->fd);
		slot->fd = -1;
		tree_release(&m->w.tree, slot->ino, 1);
	} else if (what < 4) {
		memset(want, (int)at, sizeof(want));
		assert_int_equal(pwrite(slot->fd, want, sizeof(want), (off_t)at), sizeof(want));
		expect_status(tree_write(&m->w.tree, slot->ino, want, sizeof(want), at), sizeof(want),
		              "writing a slot");
	} else {
		n = pread(slot->fd, want, sizeof(want), (off_t)at);
		expect_status(tree_read(&m->w.tree, slot->ino, got, sizeof(got), at), n, "reading a slot");
		if (n > 0 && memcmp(got, want, (size_t)n) != 0) {
			say_last(m);
			fail_msg("an open file holds other bytes");
		}
	}
}

static void restore_host(struct model *m, const char *from)
{
	close(m->hostfd);
	assert_int_equal(io_remove_tree(m->w.place.fd, "host"), 0);
	place_copy(from, m->host);
	m->hostfd = open(m->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A snapshot, or when there is one of this number: a reset to it, or its end. */
static void change_layers(struct model *m)
{
	uint64_t nr = unit_random(&m->random, SNAPSHOTS + 1), what = unit_random(&m->random, 4);
	char name[16], copy[220], entry[32];

	snprintf(name, sizeof(name), "s%" PRIu64, nr);
	snprintf(entry, sizeof(entry), "host-s%" PRIu64, nr);
	snprintf(copy, sizeof(copy), "%s/%s", m->w.place.path, entry);
	snprintf(m->last[m->n_ops % LAST], LINE, "layers: %s %" PRIu64, name, what);
	if (nr == SNAPSHOTS) {
		close_slots(m);
		world_reset(&m->w, SNAPSHOT_BASE);
		restore_host(m, m->w.base);
	} else if (!m->snapshots[nr]) {
		world_snapshot(&m->w, name);
		place_copy(m->host, copy);
		m->snapshots[nr] = true;
	} else if (what < 3) {
		close_slots(m);
		world_reset(&m->w, name);
		restore_host(m, copy);
	} else {
		world_delete(&m->w, name);
		assert_int_equal(io_remove_tree(m->w.place.fd, entry), 0);
		m->snapshots[nr] = false;
	}
}

static void reopen(struct model *m)
{
	char *before;
	int r;

	snprintf(m->last[m->n_ops % LAST], LINE, "reopen");
	close_slots(m);
	before = dump_world(&m->w, DUMP_INOS);
	if (unit_random(&m->random, 2))
		world_close(&m->w);
	else
		world_crash(&m->w);
	r = world_try_open(&m->w);
	if (r < 0) {
		say_last(m);
		fail_msg("the session does not open: %s", strerror(-r));
	}
	dump_expect_world(&m->w, DUMP_INOS, before, "reopened");
	free(before);
}

static void one_op(struct model *m)
{
	char a[OP_PATH_MAX], b[OP_PATH_MAX];
	struct op op = random_op(m, a, b);
	int want, got;

	op_text(&op, m->last[m->n_ops % LAST]);
	want = op_host(m->hostfd, &op);
	got = op_tree(&m->w, &op);
	if (got != want)
		say_last(m);
	expect_status(got, want, "%s", m->last[m->n_ops % LAST]);
}

static int setup(void **state)
{
	struct model *m = calloc(1, sizeof(*m));

	world_make(&m->w, fill_base);
	snprintf(m->host, sizeof(m->host), "%s/host", m->w.place.path);
	place_copy(m->w.base, m->host);
	m->hostfd = open(m->host, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned int i = 0; i < SLOTS; i++)
		m->slots[i].fd = -1;
	m->seed = unit_number("UMLFS_MODEL_SEED", 1);
	m->random.state = m->seed;
	*state = m;
	return 0;
}

static int teardown(void **state)
{
	struct model *m = *state;

	if (m->w.store)
		close_slots(m);
	close(m->hostfd);
	world_fini(&m->w);
	free(m);
	return 0;
}

static void random_operations_leave_the_tree_that_the_kernel_leaves(void **state)
{
	struct model *m = *state;
	uint64_t wanted = unit_number("UMLFS_MODEL_OPS", OPS);

	for (; m->n_ops < wanted; m->n_ops++) {
		uint64_t dice = unit_random(&m->random, 200);

		if (dice < 40)
			use_slot(m);
		else if (dice < 42)
			change_layers(m);
		else if (dice < 43)
			reopen(m);
		else
			one_op(m);
		if ((dice >= 40 && dice < 43) || m->n_ops % 10 == 0)
			expect_same(m, m->last[m->n_ops % LAST]);
	}
	print_message("%" PRIu64 " operations from seed %" PRIu64 "\n", m->n_ops, m->seed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(random_operations_leave_the_tree_that_the_kernel_leaves),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
