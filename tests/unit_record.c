/*
 * unit_record: promises of record.
 * Invariant: every payload that is read lies in a heap block of its own length, so that a byte too far is
 * seen.
 * Called by meson test.
 */
#include "record.h"

#include "format.h"
#include "unit.h"
#include "unit_inode.h"

static const struct inode full = {
	.ino = 77,
	.mode = S_IFREG | 04755,
	.uid = 10,
	.gid = 4000000000u,
	.nlink = 3,
	.rdev = UINT64_C(8) << 32 | 1,
	.size = INT64_MAX,
	.blocks = 99,
	.atime = {-1, 999999999},
	.mtime = {INT64_C(1) << 40, 5},
	.ctime = {3, 0},
	.parent = FORMAT_NUMBERS_END - 1,
};

/* Every kind of effect in one record; the longest name and set bytes. */
static void fill(struct record *record)
{
	static const unsigned char set[] = {1, 2, 0, 0, 0, 'a', 'x', 'y', 1, 0, 0, 0, 0, 'b'};
	char name[FORMAT_NAME_MAX];

	memset(name, 0xff, sizeof(name));
	record_start(record);
	record_inode(record, &full, INODE_FIELDS);
	record_entry(record, 1, name, sizeof(name), 77);
	record_entry(record, FORMAT_NUMBERS_END - 1, "n", 1, 0);
	record_target(record, 5, "../target", 9);
	record_xattrs(record, 6, (struct xattr_set){set, sizeof(set)});
	record_xattrs(record, 7, (struct xattr_set){0});
	record_inode(record, &full, INODE_MTIME);
	record_partial(record, 8, INT64_MAX);
	record_part(record, 8, 4096, 8192);
	record_below(record, 8, 5000);
}

static void what_is_encoded_is_decoded(void **state)
{
	struct record *record = malloc(sizeof(*record));
	struct effect e[RECORD_EFFECTS];

	fill(record);
	assert_int_equal(record_decode(record->bytes, record->len, e), 10);
	assert_int_equal(e[0].kind, EFFECT_INODE);
	assert_int_equal(e[0].fields, INODE_FIELDS);
	expect_same_inode(&e[0].attr, &full);
	assert_int_equal(e[1].kind, EFFECT_ENTRY);
	assert_int_equal(e[1].parent, 1);
	assert_int_equal(e[1].ino, 77);
	assert_int_equal(e[1].len, FORMAT_NAME_MAX);
	assert_int_equal((unsigned char)e[1].bytes[254], 0xff);
	assert_true(e[2].parent == FORMAT_NUMBERS_END - 1);
	assert_int_equal(e[2].ino, 0);
	assert_int_equal(e[3].kind, EFFECT_TARGET);
	assert_int_equal(e[3].ino, 5);
	assert_int_equal(e[3].len, 9);
	assert_memory_equal(e[3].bytes, "../target", 9);
	assert_int_equal(e[4].kind, EFFECT_XATTRS);
	assert_int_equal(e[4].len, 14);
	assert_int_equal(e[5].len, 0);
	assert_int_equal(e[6].fields, INODE_MTIME);
	assert_int_equal(e[6].attr.mtime.tv_sec, full.mtime.tv_sec);
	assert_int_equal(e[7].kind, EFFECT_PARTIAL);
	assert_true(e[7].ino == 8 && e[7].to == INT64_MAX);
	assert_int_equal(e[8].kind, EFFECT_PART);
	assert_true(e[8].ino == 8 && e[8].from == 4096 && e[8].to == 8192);
	assert_int_equal(e[9].kind, EFFECT_BELOW);
	assert_true(e[9].ino == 8 && e[9].to == 5000);
	free(record);
}

static void each_field_travels_alone(void **state)
{
	struct record *record = malloc(sizeof(*record));

	for (unsigned int field = 1; field <= INODE_FIELDS; field <<= 1) {
		struct effect e[RECORD_EFFECTS];
		struct inode want = full;

		record_start(record);
		record_inode(record, &full, INODE_FIELDS & ~field);
		record_inode(record, &full, field);
		assert_int_equal(record_decode(record->bytes, record->len, e), 2);
		assert_int_equal(e[0].fields, INODE_FIELDS & ~field);
		assert_int_equal(e[1].fields, field);
		want = (struct inode){.ino = full.ino};
		want.mode = field == INODE_MODE ? full.mode : 0;
		want.uid = field == INODE_UID ? full.uid : 0;
		want.gid = field == INODE_GID ? full.gid : 0;
		want.nlink = field == INODE_NLINK ? full.nlink : 0;
		want.rdev = field == INODE_RDEV ? full.rdev : 0;
		want.size = field == INODE_SIZE ? full.size : 0;
		want.blocks = field == INODE_BLOCKS ? full.blocks : 0;
		want.atime = field == INODE_ATIME ? full.atime : want.atime;
		want.mtime = field == INODE_MTIME ? full.mtime : want.mtime;
		want.ctime = field == INODE_CTIME ? full.ctime : want.ctime;
		want.parent = field == INODE_PARENT ? full.parent : 0;
		expect_same_inode(&e[1].attr, &want);
	}
	free(record);
}

/* Touches every byte that the effects name. */
static void read_effects(const struct effect *effects, int n)
{
	unsigned int sum = 0; /* so that a sanitizer looks at each byte */

	for (int i = 0; i < n; i++) {
		assert_int_in_range(effects[i].kind, EFFECT_INODE, EFFECT_BELOW);
		assert_false(effects[i].kind == EFFECT_ENTRY && effects[i].len == 0);
		for (size_t at = 0; at < effects[i].len; at++)
			sum += (unsigned char)effects[i].bytes[at];
	}
	assert_true(sum < UINT32_MAX);
}

static void every_prefix_is_refused_or_whole_effects(void **state)
{
	struct record *record = malloc(sizeof(*record));
	unsigned int n_accepted = 0;

	fill(record);
	for (size_t cut = 0; cut < record->len; cut++) {
		unsigned char *copy = malloc(cut ? cut : 1);
		struct effect e[RECORD_EFFECTS];
		int n;

		memcpy(copy, record->bytes, cut);
		n = record_decode(copy, cut, e);
		if (n > 0) {
			assert_int_equal(n, ++n_accepted);
			read_effects(e, n);
		} else {
			expect_status(n, -EUCLEAN, "cut at %zu", cut);
		}
		free(copy);
	}
	assert_int_equal(n_accepted, 9);
	free(record);
}

static void every_flipped_bit_stays_within_the_payload(void **state)
{
	struct record *record = malloc(sizeof(*record));

	fill(record);
	for (size_t bit = 0; bit < record->len * 8; bit++) {
		unsigned char *copy = malloc(record->len);
		struct effect e[RECORD_EFFECTS];
		int n;

		memcpy(copy, record->bytes, record->len);
		copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
		n = record_decode(copy, record->len, e);
		if (n < 0)
			expect_status(n, -EUCLEAN, "bit %zu", bit);
		else
			read_effects(e, n);
		free(copy);
	}
	free(record);
}

static void expect_numbers_refused(uint64_t number, bool zero)
{
	struct record *record = malloc(sizeof(*record));
	struct effect e[RECORD_EFFECTS];

	for (unsigned int where = 0; where < 5; where++) {
		struct inode inode = {.ino = where == 0 ? number : 2, .parent = where == 1 ? number : 3};

		if (zero && (where == 1 || where == 3)) /* no parent, a name that is gone */
			continue;
		record_start(record);
		if (where < 2)
			record_inode(record, &inode, INODE_PARENT);
		else if (where < 4)
			record_entry(record, where == 2 ? number : 2, "n", 1, where == 3 ? number : 3);
		else
			record_below(record, number, 5000);
		expect_status(record_decode(record->bytes, record->len, e), -EUCLEAN, "%llx at place %u",
		              (unsigned long long)number, where);
	}
	free(record);
}

static void numbers_that_no_inode_has_are_refused(void **state)
{
	expect_numbers_refused(0, true);
	expect_numbers_refused(FORMAT_NUMBERS_END, false);
	expect_numbers_refused(UINT64_MAX, false);
}

static void nonsense_is_refused(void **state)
{
	static const struct {
		const char *what, *bytes;
		size_t len;
	} cases[] = {
		{"nothing", "", 0},
		{"kind 0", "\0\1\0\0\0\0\0\0\0\0\0", 11},
		{"kind 5", "\5\1\0\0\0\0\0\0\0\0\0", 11},
		{"an unknown field", "\1\1\0\0\0\0\0\0\0\0\x80", 11},
		{"an empty name", "\2\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0", 18},
		{"a name with /", "\2\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\1/", 19},
		{"a name with NUL", "\2\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\2a\0", 20},
		{"a size above 2^63", "\1\1\0\0\0\0\0\0\0\x20\0\0\0\0\0\0\0\0\x80", 19},
		{"nsec of 10^9", "\1\1\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\xca\x9a\x3b", 23},
		{"a broken set", "\4\1\0\0\0\0\0\0\0\1\0\0\0\1", 14},
	};
	struct effect e[RECORD_EFFECTS];
	unsigned char many[11 * (RECORD_EFFECTS + 1)];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		expect_status(record_decode((const unsigned char *)cases[i].bytes, cases[i].len, e), -EUCLEAN, "%s",
		              cases[i].what);
	for (size_t i = 0; i <= RECORD_EFFECTS; i++)
		memcpy(many + 11 * i, "\1\1\0\0\0\0\0\0\0\0\0", 11);
	expect_status(record_decode(many, 11 * RECORD_EFFECTS, e), RECORD_EFFECTS, "as many effects as there may be");
	expect_status(record_decode(many, sizeof(many), e), -EUCLEAN, "one effect too many");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_encoded_is_decoded),
		cmocka_unit_test(each_field_travels_alone),
		cmocka_unit_test(every_prefix_is_refused_or_whole_effects),
		cmocka_unit_test(every_flipped_bit_stays_within_the_payload),
		cmocka_unit_test(numbers_that_no_inode_has_are_refused),
		cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
