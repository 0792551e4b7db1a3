/*
 * unit_part: promises about files that are copied up in parts.
 * Invariant: what a file must hold is kept in a plain buffer; the host never shares blocks here (unit_world.h).
 * Called by meson test.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "content.h"
#include "format.h"
#include "umlfs/check.h"
#include "unit.h"
#include "unit_op.h"

enum { UNIT = WORLD_COPY_UNIT, UNITS = 40, BIG = UNITS * UNIT + 100, MOST = 2 * BIG, ROUNDS = 12, STEPS = 60 };

#define GIB (UINT64_C(1) << 30)

struct file {
	struct world w;
	unsigned char want[MOST];
	size_t size;
	uint64_t ino;
};

static unsigned char base_byte(size_t at)
{
	return (unsigned char)(1 + (at * 7 + at / 300) % 250);
}

static void fill_base(int basefd)
{
	static unsigned char big[BIG];
	int fd;

	for (size_t i = 0; i < BIG; i++)
		big[i] = base_byte(i);
	place_put(basefd, "big", big, BIG);
	fd = openat(basefd, "huge", O_WRONLY | O_CREAT, 0644);
	assert_int_equal(pwrite(fd, "end", 3, (off_t)(GIB - 3)), 3);
	close(fd);
}

static int setup(void **state)
{
	struct file *f = calloc(1, sizeof(*f));

	world_make(&f->w, fill_base);
	f->size = BIG;
	for (size_t i = 0; i < BIG; i++)
		f->want[i] = base_byte(i);
	f->ino = world_ino(&f->w, "big");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct file *f = *state;

	world_fini(&f->w);
	free(f);
	return 0;
}

static void expect_bytes(struct file *f, const char *when)
{
	static unsigned char got[MOST + 1];
	struct inode inode = world_inode(&f->w, "big");
	ssize_t n = tree_read(&f->w.tree, f->ino, got, sizeof(got), 0);

	expect_status((long)inode.size, (long)f->size, "%s: size", when);
	expect_status(n, (long)f->size, "%s: reading", when);
	for (size_t i = 0; i < f->size; i++) {
		if (got[i] != f->want[i])
			fail_msg("%s: byte %zu is %u, not %u", when, i, got[i], f->want[i]);
	}
}

static void put(struct file *f, unsigned char byte, size_t from, size_t len)
{
	static unsigned char bytes[MOST];

	memset(bytes, byte, len);
	expect_status(tree_write(&f->w.tree, f->ino, bytes, len, from), (long)len, "writing at %zu", from);
	memset(f->want + from, byte, len);
	if (from + len > f->size)
		f->size = from + len;
}

static void cut(struct file *f, size_t size)
{
	expect_status(world_truncate(&f->w, f->ino, size), 0, "truncating to %zu", size);
	if (size < f->size)
		memset(f->want + size, 0, f->size - size);
	f->size = size;
}

static int content_fd(struct file *f, int flags)
{
	const struct session *s = &f->w.store->session;
	int fd = content_open(s->layersfd, stack_top(&s->stack)->id, f->ino, flags);

	assert_true(fd >= 0);
	return fd;
}

static uint64_t below(struct file *f)
{
	struct inode inode;

	assert_int_equal(stack_inode(&f->w.store->session.stack, f->ino, &inode), 0);
	return inode.below;
}

static void a_byte_takes_one_unit(void **state)
{
	struct file *f = *state;
	struct inode inode;
	struct stat st;
	char end[4] = "";
	int fd;

	put(f, 'w', 100, 1);
	fd = content_fd(f, O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, BIG);
	assert_true(st.st_blocks * 512 <= UNIT);
	close(fd);
	expect_bytes(f, "one byte");
	f->ino = world_ino(&f->w, "huge");
	assert_int_equal(tree_write(&f->w.tree, f->ino, "x", 1, GIB / 2), 1);
	assert_int_equal(tree_read(&f->w.tree, f->ino, end, 4, GIB - 3), 3);
	assert_string_equal(end, "end");
	assert_int_equal(tree_lseek(&f->w.tree, f->ino, GIB / 2 + UNIT, SEEK_DATA) / UNIT, (GIB - 3) / UNIT);
	assert_int_equal(session_settle(&f->w.store->session), 0);
	assert_true(stack_top(&f->w.store->session.stack)->blocks * 512 <= 2 * UNIT);
	assert_true(stack_top(&f->w.store->session.stack)->bytes <= 2 * UNIT);
	inode = world_inode(&f->w, "huge");
	assert_int_equal(inode.size, GIB);
	assert_true(inode.blocks * 512 <= 64 << 10);
}

static void a_file_that_has_all_parts_is_an_ordinary_one(void **state)
{
	struct file *f = *state;

	for (size_t at = 0; at < BIG; at += UNIT) {
		assert_true(below(f) > 0 || at == 0);
		put(f, 'p', at, at % 3 ? 1 : UNIT);
	}
	assert_int_equal(below(f), 0);
	expect_bytes(f, "all parts");
	world_reopen(&f->w);
	assert_int_equal(below(f), 0);
	expect_bytes(f, "all parts, again");
}

static void what_was_cut_off_does_not_come_back(void **state)
{
	struct file *f = *state;

	put(f, 'a', 10, 10);
	for (unsigned int i = 0; i < 3; i++) {
		cut(f, 5 * UNIT + 100 - i * 2000);
		expect_bytes(f, "cut");
		cut(f, MOST);
		expect_bytes(f, "grown");
		world_crash(&f->w);
		world_open(&f->w);
		expect_bytes(f, "grown, after a kill");
	}
	world_snapshot(&f->w, "name");
	cut(f, 0);
	cut(f, BIG);
	expect_bytes(f, "emptied and grown");
}

static void random_step(struct file *f, struct unit_random *random)
{
	size_t from = unit_random(random, BIG), len = 1 + unit_random(random, unit_random(random, 4) ? 3 * UNIT : 300);

	switch (unit_random(random, 12)) {
	case 0:
		cut(f, unit_random(random, 3) ? from + len : f->size + len > MOST ? 1 : f->size + len);
		return;
	case 1:
		if (from >= f->size)
			return;
		expect_status(tree_fallocate(&f->w.tree, f->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, len),
		              0, "punching");
		memset(f->want + from, 0, from + len < f->size ? len : f->size - from);
		return;
	case 2: /* whole units */
		put(f, (unsigned char)unit_random(random, 256), from / UNIT * UNIT,
		    (1 + unit_random(random, 4)) * UNIT);
		return;
	default:
		put(f, (unsigned char)unit_random(random, 256), from, len);
	}
}

/* Snapshots between, removed so that layers are joined; daemons that end or die. */
static void layers_of_parts_are_one_file(void **state)
{
	struct file *f = *state;
	struct unit_random random = {3};

	for (unsigned int round = 0; round < ROUNDS; round++) {
		char name[16], when[64];
		bool is_there[3] = {false};

		for (unsigned int step = 0; step < STEPS; step++) {
			unsigned int nr = (unsigned int)unit_random(&random, 3);

			snprintf(name, sizeof(name), "s%u", nr);
			snprintf(when, sizeof(when), "round %u, step %u", round, step);
			random_step(f, &random);
			expect_bytes(f, when);
			if (unit_random(&random, 6) == 0) {
				if (is_there[nr])
					world_delete(&f->w, name);
				else
					world_snapshot(&f->w, name);
				is_there[nr] = !is_there[nr];
			}
			if (unit_random(&random, 6) == 0) {
				if (unit_random(&random, 2))
					world_close(&f->w);
				else
					world_crash(&f->w);
				world_open(&f->w);
				expect_bytes(f, when);
			}
		}
		world_reset(&f->w, SNAPSHOT_BASE);
		for (unsigned int nr = 0; nr < 3; nr++) {
			snprintf(name, sizeof(name), "s%u", nr);
			if (is_there[nr])
				world_delete(&f->w, name);
		}
		f->size = BIG;
		for (size_t i = 0; i < MOST; i++)
			f->want[i] = i < BIG ? base_byte(i) : 0;
		expect_bytes(f, "reset");
	}
}

/* The process dies between the write and the record that shows it. */
static void bytes_without_their_record_are_not_there(void **state)
{
	struct file *f = *state;
	struct session_write w = {.from = UNIT, .to = 3 * UNIT, .at_once = true, .keep = BIG, .now = tree_now()};
	static unsigned char bytes[2 * UNIT];
	struct inode inode;
	int fd;

	for (unsigned int round = 0; round < 2; round++) {
		assert_int_equal(stack_inode(&f->w.store->session.stack, f->ino, &inode), 0);
		fd = session_begin_write(&f->w.store->session, &inode, &w);
		assert_true(fd >= 0);
		memset(bytes, 'x', sizeof(bytes));
		assert_int_equal(pwrite(fd, bytes, sizeof(bytes), UNIT), sizeof(bytes));
		world_crash(&f->w);
		world_open(&f->w);
		expect_bytes(f, "killed");
		fd = content_fd(f, O_RDONLY);
		expect_status(lseek(fd, 0, SEEK_DATA) < 0 ? -errno : 0, -ENXIO, "round %u: what is left of it", round);
		close(fd);
	}
}

/* An older umlfs would take what it does not know for damage. */
static void a_journal_of_version_1_gets_no_parts(void **state)
{
	struct file *f = *state;
	struct disk_journal_header header;
	int fd;

	world_close(&f->w);
	fd = openat(f->w.place.fd, "session/layers/1/journal", O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, &header, sizeof(header), 0), sizeof(header));
	header.version = le32(1);
	header.checksum = le64(checksum64(&header, offsetof(struct disk_journal_header, checksum), 0));
	assert_int_equal(pwrite(fd, &header, sizeof(header), 0), sizeof(header));
	close(fd);
	world_open(&f->w);
	put(f, 'w', 100, 1);
	assert_int_equal(below(f), 0);
	expect_bytes(f, "version 1");
	world_snapshot(&f->w, "name");
	put(f, 'v', 5 * UNIT, 1);
	assert_int_equal(below(f), BIG);
	expect_bytes(f, "version 2 on version 1");
}

static void tell(void *arg, const struct finding *found)
{
	char *text = arg;

	snprintf(text + strlen(text), 400 - strlen(text), "%s: %s\n", found->where, found->what);
}

static void check(struct file *f, char text[400])
{
	struct check_options options = {.path = f->w.session, .log = &f->w.place.log, .found = tell, .arg = text};
	struct check_result result;

	*text = '\0';
	expect_status(check_run(&options, &result), 0, "checking: %s", f->w.place.lines);
}

static void check_knows_of_parts(void **state)
{
	struct file *f = *state;
	char text[400];
	int fd;

	put(f, 'w', 100, 1);
	put(f, 'w', 9 * UNIT, 3 * UNIT);
	fd = content_fd(f, O_RDWR);
	expect_status(session_settle(&f->w.store->session), 0, "settling");
	world_crash(&f->w);
	check(f, text);
	assert_string_equal(text, "");
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 10 * UNIT, UNIT), 0);
	check(f, text);
	assert_string_equal(text, "");
	assert_int_equal(unlinkat(f->w.place.fd, "session/running", 0), 0);
	assert_int_equal(symlinkat("the boot before", f->w.place.fd, "session/running"), 0);
	check(f, text);
	assert_non_null(strstr(text, "has holes where it has parts of its file"));
	close(fd);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_byte_takes_one_unit),
		TEST(a_file_that_has_all_parts_is_an_ordinary_one),
		TEST(what_was_cut_off_does_not_come_back),
		TEST(layers_of_parts_are_one_file),
		TEST(bytes_without_their_record_are_not_there),
		TEST(a_journal_of_version_1_gets_no_parts),
		TEST(check_knows_of_parts),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
