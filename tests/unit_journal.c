/*
 * unit_journal: promises of journal, and of the sessions that replay one.
 * Invariant: the states to compare with were dumped after each frame of a real session's journal.
 * Called by meson test.
 */
#include "journal.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <unistd.h>

#include "checksum.h"
#include "format.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

static const char journal_path[] = "session/layers/1/journal";

static void fill_base(int basefd)
{
	place_put(basefd, "file", "base", 4);
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
	place_put(basefd, "dir/child", "child", 5);
	assert_int_equal(symlinkat("file", basefd, "link"), 0);
}

static const struct op ops[] = {
	{OP_MKDIR, "new", NULL, 0, 0, 0},
	{OP_MKFILE, "new/file", NULL, 0, 0, 0},
	{OP_SYMLINK, "new/link", "../some where", 0, 0, 0},
	{OP_LINK, "file", "new/hard", 0, 0, 0},
	{OP_CHMOD, "file", NULL, 04711, 0, 0},
	{OP_CHOWN, "dir/child", NULL, 5 << 16 | 6, 0, 0},
	{OP_RENAME, "dir", "new/dir", 0, 0, 0},
	{OP_RENAME, "new/file", "new/link", RENAME_EXCHANGE, 0, 0},
	{OP_UNLINK, "new/dir/child", NULL, 0, 0, 0},
	{OP_RMDIR, "new/dir", NULL, 0, 0, 0},
	{OP_MKDIR, "dir", NULL, 0, 0, 0},
	{OP_RENAME, "new/hard", "dir/hard", 0, 0, 0},
	{OP_UNLINK, "file", NULL, 0, 0, 0},
	{OP_MKFIFO, "dir/fifo", NULL, 0, 0, 0},
};

enum { STATES = ARRAY_LEN(ops) + 2 };

/* A session's journal, and the state after each of its frames. */
struct recorded {
	struct world w;
	unsigned char *bytes;
	size_t len;
	size_t ends[STATES];
	char *states[STATES];
	size_t n;
};

static void remember(struct recorded *rec)
{
	rec->ends[rec->n] = journal_size(stack_top(&rec->w.store->session.stack)->journal);
	rec->states[rec->n++] = dump_world(&rec->w, DUMP_ALL);
}

static int setup(void **state)
{
	struct recorded *rec = calloc(1, sizeof(*rec));
	char text[2 * OP_PATH_MAX];

	world_make(&rec->w, fill_base);
	remember(rec);
	for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
		expect_status(op_tree(&rec->w, &ops[i]), 0, "%s", op_text(&ops[i], text));
		remember(rec);
	}
	expect_status(tree_setxattr(&rec->w.tree, world_ino(&rec->w, "dir"), "user.x", "value", 5, 0), 0, "setxattr");
	remember(rec);
	world_close(&rec->w);
	rec->bytes = place_get(rec->w.place.fd, journal_path, &rec->len);
	assert_int_equal(rec->len, rec->ends[rec->n - 1]);
	*state = rec;
	return 0;
}

static int teardown(void **state)
{
	struct recorded *rec = *state;

	for (size_t i = 0; i < rec->n; i++)
		free(rec->states[i]);
	free(rec->bytes);
	world_fini(&rec->w);
	free(rec);
	return 0;
}

/* The state that the whole records before `at` give. */
static size_t state_at(const struct recorded *rec, size_t at)
{
	size_t nr = 0;

	while (nr + 1 < rec->n && rec->ends[nr + 1] <= at)
		nr++;
	return nr;
}

static void every_prefix_replays_to_the_records_whole_in_it(void **state)
{
	struct recorded *rec = *state;
	struct world *w = &rec->w;
	struct stat st;

	for (size_t cut = sizeof(struct disk_journal_header); cut <= rec->len; cut++) {
		size_t nr = state_at(rec, cut);
		char when[64];

		place_forget_lines(&w->place);
		place_put(w->place.fd, journal_path, rec->bytes, cut);
		world_open(w);
		snprintf(when, sizeof(when), "journal cut at byte %zu", cut);
		dump_expect_world(w, DUMP_ALL, rec->states[nr], when);
		assert_int_equal(w->place.n_warnings, cut == rec->ends[nr] ? 0 : 1);
		assert_int_equal(w->place.n_errors, 0);
		assert_int_equal(journal_size(stack_top(&w->store->session.stack)->journal), rec->ends[nr]);
		world_crash(w);
		assert_int_equal(fstatat(w->place.fd, journal_path, &st, 0), 0);
		assert_int_equal(st.st_size, rec->ends[nr]);
	}
}

static void after_a_torn_tail_the_next_append_works(void **state)
{
	static const struct op next = {OP_MKDIR, "next", NULL, 0, 0, 0};
	struct recorded *rec = *state;
	struct world *w = &rec->w;

	for (size_t nr = 0; nr + 1 < rec->n; nr++) {
		size_t cut = (rec->ends[nr] + 2 * rec->ends[nr + 1]) / 3;
		char *want;

		place_put(w->place.fd, journal_path, rec->bytes, cut);
		world_open(w);
		expect_status(op_tree(w, &next), 0, "mkdir after a cut at %zu", cut);
		want = dump_world(w, DUMP_ALL);
		world_reopen(w);
		dump_expect_world(w, DUMP_ALL, want, "reopened after a torn tail");
		world_close(w);
		free(want);
	}
}

/* Zeros at the end, as some file systems leave them after a power cut, are a torn tail too. */
static void a_tail_of_zeros_is_dropped(void **state)
{
	struct recorded *rec = *state;
	struct world *w = &rec->w;
	unsigned char *bytes = calloc(1, rec->len + 5000);

	memcpy(bytes, rec->bytes, rec->len);
	for (size_t zeros = 1; zeros < 5000; zeros = zeros * 3 + 1) {
		place_put(w->place.fd, journal_path, bytes, rec->len + zeros);
		world_open(w);
		dump_expect_world(w, DUMP_ALL, rec->states[rec->n - 1], "zeros at the end");
		world_crash(w);
	}
	free(bytes);
}

static void every_flipped_bit_is_named_or_drops_the_last_record(void **state)
{
	struct recorded *rec = *state;
	struct world *w = &rec->w;
	size_t last = rec->ends[rec->n - 2];
	struct unit_random random = {1};

	for (size_t at = 0; at < rec->len; at++) {
		unsigned char mask = (unsigned char)(1 << unit_random(&random, 8));
		int r;

		place_forget_lines(&w->place);
		rec->bytes[at] ^= mask;
		place_put(w->place.fd, journal_path, rec->bytes, rec->len);
		rec->bytes[at] ^= mask;
		r = world_try_open(w);
		if (r == 0) {
			if (at < last)
				fail_msg("byte %zu: damage before the last record was accepted", at);
			dump_expect_world(w, DUMP_ALL, rec->states[rec->n - 2], "damaged last record");
			assert_int_equal(w->place.n_warnings, 1);
			world_crash(w);
			continue;
		}
		expect_status(r, -EUCLEAN, "byte %zu", at);
		assert_int_equal(w->place.n_errors, 1);
		assert_non_null(strstr(w->place.lines, "/layers/1/journal: "));
	}
}

static int count_visit(void *arg, uint64_t serial, const unsigned char *payload, size_t len)
{
	++*(unsigned int *)arg;
	return 0;
}

/* Opens the recorded journal with these bytes as its header's version and layer. */
static int open_with_header(struct recorded *rec, uint32_t version, uint64_t layer, uint64_t wanted_layer)
{
	struct disk_journal_header header;
	struct journal *j = NULL;
	int fd = openat(rec->w.place.fd, "session/layers/1", O_RDONLY | O_DIRECTORY);
	int r;

	memcpy(&header, rec->bytes, sizeof(header));
	header.version = le32(version);
	header.layer = le64(layer);
	header.checksum = le64(checksum64(&header, offsetof(struct disk_journal_header, checksum), 0));
	memcpy(rec->bytes, &header, sizeof(header));
	place_put(fd, "journal", rec->bytes, rec->len);
	place_forget_lines(&rec->w.place);
	r = journal_open(fd, wanted_layer, true, "layers/N/journal", &rec->w.place.log, &j);
	journal_free(j);
	close(fd);
	return r;
}

static void headers_are_checked(void **state)
{
	struct recorded *rec = *state;
	const char *lines = rec->w.place.lines;

	assert_int_equal(open_with_header(rec, 1, 1, 1), 0);
	assert_int_equal(open_with_header(rec, 2, 1, 1), 0);
	assert_int_equal(open_with_header(rec, 3, 1, 1), -EPROTONOSUPPORT);
	assert_non_null(strstr(lines, "layers/N/journal: made by a newer umlfs (version 3)"));
	assert_int_equal(open_with_header(rec, 0, 1, 1), -EUCLEAN);
	assert_int_equal(open_with_header(rec, 1, 7, 1), -EUCLEAN);
	assert_non_null(strstr(lines, "layers/N/journal: damaged: it is the journal of layer 7"));
	rec->len = 10;
	assert_int_equal(open_with_header(rec, 1, 1, 1), -EUCLEAN);
}

static void a_missing_journal_is_named(void **state)
{
	struct recorded *rec = *state;

	assert_int_equal(unlinkat(rec->w.place.fd, journal_path, 0), 0);
	place_forget_lines(&rec->w.place);
	assert_true(world_try_open(&rec->w) < 0);
	assert_non_null(strstr(rec->w.place.lines, "/layers/1/journal: No such file"));
}

static void a_sealed_journal_has_the_length_that_was_sealed(void **state)
{
	struct recorded *rec = *state;
	struct place *p = &rec->w.place;
	int fd = openat(p->fd, "session/layers/1", O_RDONLY | O_DIRECTORY);

	for (size_t len = rec->ends[3]; len <= rec->ends[5]; len++) {
		unsigned int n = 0;
		struct journal *j;
		int r;

		place_put(fd, "journal", rec->bytes, len);
		assert_int_equal(journal_open(fd, 1, false, "J", &p->log, &j), 0);
		r = journal_replay(j, rec->ends[4], &p->log, count_visit, &n);
		expect_status(r, len < rec->ends[4] ? -EUCLEAN : 0, "sealed %zu, there %zu", rec->ends[4], len);
		assert_int_equal(n, r == 0 ? 4 : 0);
		journal_free(j);
	}
	close(fd);
}

static void serial_numbers_only_grow(void **state)
{
	struct recorded *rec = *state;
	unsigned int n = 0;
	struct journal *j;
	int fd = openat(rec->w.place.fd, "session/layers/1", O_RDONLY | O_DIRECTORY);

	/* The first frame once more, behind the last. */
	rec->bytes = realloc(rec->bytes, 2 * rec->len);
	memcpy(rec->bytes + rec->len, rec->bytes + rec->ends[0], rec->ends[1] - rec->ends[0]);
	place_put(fd, "journal", rec->bytes, rec->len + rec->ends[1] - rec->ends[0]);
	assert_int_equal(journal_open(fd, 1, true, "J", &rec->w.place.log, &j), 0);
	assert_int_equal(journal_replay(j, 0, &rec->w.place.log, count_visit, &n), -EUCLEAN);
	assert_int_equal(n, rec->n - 1);
	journal_free(j);
	close(fd);
}

/* The frame behind the last one. */
static void put_frame(struct recorded *rec, uint64_t serial)
{
	const unsigned char *payload = rec->bytes + rec->ends[0] + sizeof(struct disk_frame);
	size_t len = rec->ends[1] - rec->ends[0] - sizeof(struct disk_frame);
	const struct le64 words[2] = {le64(len), le64(serial)};
	const struct disk_frame frame = {
		.len = le32((uint32_t)len),
		.check = le32((uint32_t)checksum64(words, sizeof(words), 0)),
		.serial = le64(serial),
		.checksum = le64(checksum64(payload, len, serial)),
	};
	unsigned char *bytes = malloc(rec->len + sizeof(frame) + len);

	memcpy(bytes, rec->bytes, rec->len);
	memcpy(bytes + rec->len, &frame, sizeof(frame));
	memcpy(bytes + rec->len + sizeof(frame), payload, len);
	place_put(rec->w.place.fd, journal_path, bytes, rec->len + sizeof(frame) + len);
	free(bytes);
}

static void serial_numbers_have_an_end_before_they_wrap(void **state)
{
	static const struct op op = {OP_MKDIR, "more", NULL, 0, 0, 0};
	struct recorded *rec = *state;
	struct world *w = &rec->w;

	put_frame(rec, FORMAT_NUMBERS_END);
	assert_int_equal(world_try_open(w), -EUCLEAN);
	put_frame(rec, UINT64_MAX);
	assert_int_equal(world_try_open(w), -EUCLEAN);
	put_frame(rec, FORMAT_NUMBERS_END - 2);
	world_open(w);
	assert_int_equal(op_tree(w, &op), 0);
	assert_int_equal(op_tree(w, &(struct op){OP_RMDIR, "more", NULL, 0, 0, 0}), -ENOSPC);
	world_reopen(w);
	assert_int_equal(op_tree(w, &op), -EEXIST);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_prefix_replays_to_the_records_whole_in_it),
		TEST(after_a_torn_tail_the_next_append_works),
		TEST(a_tail_of_zeros_is_dropped),
		TEST(every_flipped_bit_is_named_or_drops_the_last_record),
		TEST(headers_are_checked),
		TEST(a_missing_journal_is_named),
		TEST(a_sealed_journal_has_the_length_that_was_sealed),
		TEST(serial_numbers_only_grow),
		TEST(serial_numbers_have_an_end_before_they_wrap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
