/*
 * unit_powercut_part: what is left of a file in part when the host goes down: each part that was not synced, or what is below.
 * Invariant: as of unit_powercut.
 * Called by meson test.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit.h"
#include "unit_image.h"

enum { PARTS_BYTES = 9 * WORLD_COPY_UNIT + 100 };

static void fill_base(int basefd)
{
	static unsigned char parts[PARTS_BYTES];

	memset(parts, 'b', sizeof(parts));
	place_put(basefd, "parts", parts, sizeof(parts));
}

static int setup(void **state)
{
	return image_start(state, fill_base);
}

/* Bytes of a content file that did not come to the disk. */
static void make_hole(struct crashed *c, const char *path, uint64_t from, uint64_t len)
{
	int fd = image_session_fd(c);
	int content = openat(fd, path, O_RDWR | O_CLOEXEC);

	assert_int_equal(fallocate(content, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)len), 0);
	close(content);
	close(fd);
}

/* What the parts hold when the units in the mask did not come to the disk, of a file of this length. */
static void expect_parts(struct crashed *c, unsigned int holes, size_t size, const char *when)
{
	static char bytes[2 * PARTS_BYTES];
	struct inode inode = world_inode(&c->w, "parts");

	expect_status((long)inode.size, (long)size, "%s: size", when);
	expect_status(tree_read(&c->w.tree, inode.ino, bytes, sizeof(bytes), 0), (long)size, "%s", when);
	for (size_t at = 0; at < size; at++) {
		size_t unit = at / WORLD_COPY_UNIT;
		bool is_written = (at >= 1000 && at < 1100) ||
		                  (at >= 3 * WORLD_COPY_UNIT && at < 5 * WORLD_COPY_UNIT) || at >= PARTS_BYTES;
		char want = is_written && !(holes >> unit & 1) ? 'n' : 'b';

		if (bytes[at] != want)
			fail_msg("%s: byte %zu is %c, not %c", when, at, bytes[at], want);
	}
}

/* The journal says which parts are there; those that are not go back to the bytes of the base, the others stay. */
static void a_part_has_its_old_bytes_or_its_new_ones(void **state)
{
	static const unsigned int units[] = {0, 3, 4, 9};
	struct crashed *c = *state;
	char path[64], when[80];

	image_write(c, "parts", 'n', 100, 1000);
	image_write(c, "parts", 'n', 2 * WORLD_COPY_UNIT, 3 * WORLD_COPY_UNIT);
	image_write(c, "parts", 'n', 2000, PARTS_BYTES);
	image_content_path(c, "parts", path);
	for (int settled = 0; settled < 2; settled++) {
		if (settled)
			expect_status(session_settle(&c->w.store->session), 0, "settling");
		image_take(c);
		for (unsigned int mask = 0; mask < 8; mask++) {
			unsigned int holes = 0;

			image_put(c, true);
			for (unsigned int i = 0; i < 3; i++) {
				if (mask >> i & 1) {
					make_hole(c, path, units[i] * WORLD_COPY_UNIT, WORLD_COPY_UNIT);
					holes |= 1u << units[i];
				}
			}
			snprintf(when, sizeof(when), "holes %x, settled %d", holes, settled);
			image_open_after_boot(c, when);
			expect_parts(c, holes, PARTS_BYTES + 2000, when);
		}
		for (size_t len = 0; len < PARTS_BYTES + 2000; len += 1000) {
			unsigned int holes = 0;

			image_put(c, true);
			image_part(c, path, len);
			if (len == 0 && settled)
				image_remove(c, path);
			for (unsigned int i = 0; i < 10; i++) {
				/* A block that is there in part has zeros behind: nothing writes such a file. */
				if (i * WORLD_COPY_UNIT >= len)
					holes |= 1u << i;
			}
			if (len % WORLD_COPY_UNIT && len < PARTS_BYTES)
				continue;
			snprintf(when, sizeof(when), "%zu bytes, settled %d", len, settled);
			image_open_after_boot(c, when);
			expect_parts(c, holes, len > PARTS_BYTES ? len : PARTS_BYTES, when);
		}
		image_put(c, false);
		world_open(&c->w);
	}
}

/* What a host does that stores zeros as holes, once they are on disk. */
static void make_holes_of_zeros(struct crashed *c, const char *path)
{
	static const char zeros[WORLD_COPY_UNIT];
	char bytes[WORLD_COPY_UNIT];
	int fd = image_session_fd(c);
	int content = openat(fd, path, O_RDWR | O_CLOEXEC);

	for (uint64_t at = 0; pread(content, bytes, sizeof(bytes), (off_t)at) == sizeof(bytes); at += sizeof(bytes)) {
		if (memcmp(bytes, zeros, sizeof(bytes)) == 0)
			make_hole(c, path, at, sizeof(bytes));
	}
	close(content);
	close(fd);
}

static void expect_zeros(struct crashed *c, unsigned int n, const char *when)
{
	char bytes[4 * WORLD_COPY_UNIT];

	expect_status(tree_read(&c->w.tree, world_ino(&c->w, "parts"), bytes, sizeof(bytes), 0), sizeof(bytes), "%s",
	              when);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		if (bytes[i] != (i < n * WORLD_COPY_UNIT ? 0 : 'b'))
			fail_msg("%s: byte %zu is %d", when, i, bytes[i]);
	}
}

/* Of a part that was synced nothing is ever taken for missing, whatever the host makes of zeros; of one that was not, it is. */
static void zeros_in_a_synced_part_stay(void **state)
{
	static const char *const ways[] = {"fsync", "sync", "a new mount"};
	struct crashed *c = *state;
	uint64_t ino = world_ino(&c->w, "parts");
	char path[64];

	for (unsigned int way = 0; way < ARRAY_LEN(ways); way++) {
		image_write(c, "parts", 0, WORLD_COPY_UNIT, WORLD_COPY_UNIT);
		expect_status(
			tree_fallocate(&c->w.tree, ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, WORLD_COPY_UNIT),
			0, "punch");
		if (way == 0)
			expect_status(tree_fsync(&c->w.tree, ino), 0, "fsync");
		else if (way == 1)
			expect_status(session_sync(&c->w.store->session), 0, "sync");
		else
			world_reopen(&c->w);
		image_write(c, "parts", 0, WORLD_COPY_UNIT, 2 * WORLD_COPY_UNIT);
		image_content_path(c, "parts", path);
		image_take(c);
		image_put(c, true);
		make_holes_of_zeros(c, path);
		image_open_after_boot(c, ways[way]);
		expect_zeros(c, 2, ways[way]);
		world_reset(&c->w, "@base");
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, image_end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_part_has_its_old_bytes_or_its_new_ones),
		TEST(zeros_in_a_synced_part_stay),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
