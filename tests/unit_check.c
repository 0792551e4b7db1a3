/*
 * unit_check: promises of check: damage that only crafted records and rows can make is found, named and mended.
 * Invariant: every journal and index has valid checksums, so nothing but the sense of it can be wrong.
 * Called by meson test.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check_index.h"
#include "format.h"
#include "umlfs/check.h"
#include "unit.h"
#include "unit_dump.h"
#include "unit_op.h"

static void fill_base(int basefd)
{
	place_put(basefd, ".umlfz", "", 0);
	place_put(basefd, "file", "base", 4);
	assert_int_equal(mkdirat(basefd, "dir", 0755), 0);
	assert_int_equal(mkdirat(basefd, "dir/sub", 0755), 0);
	place_put(basefd, "dir/child", "child", 5);
	assert_int_equal(linkat(basefd, "file", basefd, "dir/hard", 0), 0);
	assert_int_equal(symlinkat("file", basefd, "link"), 0);
}

static int setup(void **state)
{
	static const struct op ops[] = {
		{OP_MKFILE, "new", NULL, 0, 0, 0},         {OP_WRITE, "new", NULL, 7, 0, 5000},
		{OP_MKDIR, "made", NULL, 0, 0, 0},         {OP_MKDIR, "made/empty", NULL, 0, 0, 0},
		{OP_SYMLINK, "made/link", "new", 0, 0, 0},
	};
	struct world *w = world_new(fill_base);

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		assert_int_equal(op_tree(w, &ops[i]), 0);
	*state = w;
	return 0;
}

/* What a check told: one line a finding. */
struct told {
	char text[8192];
	struct check_result result;
};

static void tell(void *arg, const struct finding *f)
{
	struct told *told = arg;
	size_t len = strlen(told->text);

	snprintf(told->text + len, sizeof(told->text) - len, "%s %s: %s%s\n", f->kind, f->where, f->what,
	         f->mended ? " [mended]" : "");
}

/* The session must be closed. */
static struct told check(struct world *w, bool repair)
{
	struct told told = {.text = ""};
	struct check_options options = {
		.path = w->session, .repair = repair, .log = &w->place.log, .found = tell, .arg = &told};

	expect_status(check_run(&options, &told.result), 0, "checking: %s", w->place.lines);
	return told;
}

static void expect_clean(struct world *w, const char *when)
{
	struct told told = check(w, false);

	if (told.result.n_found)
		fail_msg("%s: %s", when, told.text);
}

static struct record *start(struct world *w)
{
	struct record *record = &w->store->session.record;

	record_start(record);
	return record;
}

static void apply(struct world *w)
{
	expect_status(session_apply(&w->store->session), 0, "a crafted record");
}

static void set_links(struct world *w, const char *path, uint32_t nlink)
{
	struct inode inode = world_inode(w, path);

	inode.nlink = nlink;
	record_inode(start(w), &inode, INODE_NLINK);
	apply(w);
}

static void set_entry(struct world *w, uint64_t parent, const char *name, uint64_t ino)
{
	record_entry(start(w), parent, name, strlen(name), ino);
	apply(w);
}

static void too_many_links(struct world *w)
{
	set_links(w, "file", 5);
}

static void links_of_new(struct world *w)
{
	set_links(w, "new", 2);
}

static void no_links(struct world *w)
{
	set_links(w, "new", 0);
}

static void links_of_a_directory(struct world *w)
{
	set_links(w, "made", 9);
}

static void links_of_the_root(struct world *w)
{
	set_links(w, "", 2);
}

static void nameless(struct world *w)
{
	struct inode inode = {.ino = session_new_ino(&w->store->session), .mode = S_IFREG | 0600, .nlink = 1};

	record_inode(start(w), &inode, INODE_FIELDS & ~(INODE_HERE | INODE_DIRTY | INODE_CLEAN));
	apply(w);
}

static void nowhere(struct world *w)
{
	set_entry(w, world_ino(w, "dir"), "ghost", 9999);
}

static void wrong_parent(struct world *w)
{
	struct inode inode = world_inode(w, "dir/sub");

	inode.parent = 1;
	record_inode(start(w), &inode, INODE_PARENT);
	apply(w);
}

static void lost_empty_directory(struct world *w)
{
	set_entry(w, world_ino(w, "made"), "empty", 0);
	set_links(w, "made", 2);
}

static void lost_directory(struct world *w)
{
	set_entry(w, 1, "made", 0);
	set_links(w, "", 3);
}

static void two_names_of_a_directory(struct world *w)
{
	set_entry(w, 1, "again", world_ino(w, "dir/sub"));
	set_links(w, "", 5);
}

static void circle(struct world *w)
{
	uint64_t dir = world_ino(w, "made");

	set_entry(w, world_ino(w, "made/empty"), "loop", dir);
	set_entry(w, 1, "made", 0);
	set_links(w, "", 3);
}

static void names_in_a_file(struct world *w)
{
	set_entry(w, world_ino(w, "new"), "inside", world_ino(w, "file"));
}

static void names_in_a_removed_directory(struct world *w)
{
	uint64_t empty = world_ino(w, "made/empty");

	set_entry(w, empty, "inside", world_ino(w, "file"));
	set_links(w, "made/empty", 0);
	set_entry(w, world_ino(w, "made"), "empty", 0);
	set_links(w, "made", 2);
}

static void no_type(struct world *w)
{
	struct inode inode = world_inode(w, "new");

	inode.mode = 0600;
	record_inode(start(w), &inode, INODE_MODE);
	apply(w);
}

static void no_target(struct world *w)
{
	struct inode inode = {.ino = session_new_ino(&w->store->session), .mode = S_IFLNK | 0777, .nlink = 1};
	struct record *record = start(w);

	record_inode(record, &inode, INODE_FIELDS & ~(INODE_HERE | INODE_DIRTY | INODE_CLEAN));
	record_entry(record, 1, "aimless", 7, inode.ino);
	apply(w);
}

static const struct {
	const char *name;
	void (*damage)(struct world *w);
	const char *says; /* behind the inode's number */
	unsigned int mended;
} mended_cases[] = {
	{"too many links", too_many_links, "says that it has 5 links, and has 2 [mended]", 1},
	{"links of a new file", links_of_new, "/new, inode 8: says that it has 2 links, and has 1 [mended]", 1},
	{"no links", no_links, "/new, inode 8: says that it has 0 links, and has 1 [mended]", 1},
	{"links of a directory", links_of_a_directory, "/made, inode 9: says that it has 9 links, and has 3 [mended]",
         1},
	{"links of the root", links_of_the_root, "/, inode 1: says that it has 2 links, and has 4 [mended]", 1},
	{"no name", nameless, "orphan", 1},
	{"nowhere", nowhere, "/dir/ghost: names inode 9999, which is nowhere", 1},
	{"wrong parent", wrong_parent, "/dir/sub, inode 7: its \"..\" is inode 1, and it lies in", 1},
};

/* What can be mended is: the tree is then the one before the damage, with every byte. */
static void what_a_record_can_mend_is_mended(void **state)
{
	struct world *w = *state;
	char *want = dump_world(w, DUMP_INOS);

	for (size_t i = 0; i < ARRAY_LEN(mended_cases); i++) {
		struct told told;

		mended_cases[i].damage(w);
		world_crash(w);
		told = check(w, false);
		if (told.result.n_found != 1 || told.result.n_mended != 0)
			fail_msg("%s: looking finds\n%s", mended_cases[i].name, told.text);
		told = check(w, true);
		if (told.result.n_found != 1 || told.result.n_mended != 1 || !strstr(told.text, mended_cases[i].says))
			fail_msg("%s: mending finds\n%s", mended_cases[i].name, told.text);
		expect_clean(w, mended_cases[i].name);
		world_open(w);
		dump_expect_world(w, DUMP_INOS, want, mended_cases[i].name);
	}
	free(want);
}

static void a_lost_empty_directory_goes(void **state)
{
	struct world *w = *state;
	struct inode out;
	struct told told;

	lost_empty_directory(w);
	world_crash(w);
	told = check(w, true);
	if (told.result.n_found != 1 || told.result.n_mended != 1 || !strstr(told.text, "orphan "))
		fail_msg("found\n%s", told.text);
	expect_clean(w, "after mending");
	world_open(w);
	assert_int_equal(world_find(w, "made/empty", &out), -ENOENT);
}

static const struct {
	const char *name;
	void (*damage)(struct world *w);
	const char *says;
} left_cases[] = {
	{"lost directory", lost_directory, "inode 9: a directory with names in it, to which no path leads"},
	{"two names", two_names_of_a_directory, "is one more name of directory"},
	{"circle", circle, "inode 9: lies in a circle of directories"},
	{"names in a file", names_in_a_file, "/new, inode 8: is no directory, and there are names in it"},
	{"names in a removed directory", names_in_a_removed_directory, "inode 10: is no directory, or a removed one"},
	{"no type", no_type, "/new, inode 8: is of no type (mode 0600)"},
	{"no target", no_target, "/aimless, inode 12: a symbolic link without a target"},
};

/* Where mending would have to choose, nothing is changed. */
static void what_nobody_can_decide_is_told_and_left(void **state)
{
	for (size_t i = 0; i < ARRAY_LEN(left_cases); i++) {
		struct world *w = *state;
		struct told told;
		unsigned char *before, *after;
		size_t before_len, after_len;

		left_cases[i].damage(w);
		world_close(w);
		before = place_get(w->place.fd, "session/layers/1/journal", &before_len);
		told = check(w, true);
		if (told.result.n_mended != 0 || !strstr(told.text, left_cases[i].says))
			fail_msg("%s: found\n%s", left_cases[i].name, told.text);
		after = place_get(w->place.fd, "session/layers/1/journal", &after_len);
		assert_int_equal(after_len, before_len);
		assert_memory_equal(after, before, before_len);
		free(before);
		free(after);
		world_teardown(state);
		setup(state);
	}
}

/* A sealed layer is never written to: its damage stays, the session's own goes. */
static void damage_of_a_snapshot_is_told_with_its_name(void **state)
{
	struct world *w = *state;
	struct told told;

	links_of_new(w);
	world_snapshot(w, "wrong");
	world_snapshot(w, "too");
	world_close(w);
	told = check(w, true);
	assert_int_equal(told.result.n_found, 3);
	assert_int_equal(told.result.n_mended, 1);
	assert_non_null(strstr(told.text, "(snapshot wrong): /new, inode 8: says that it has 2 links, and has 1\n"));
	assert_non_null(strstr(told.text, "(snapshot too): /new, inode 8: says that it has 2 links, and has 1\n"));
	assert_non_null(strstr(told.text, "/session: /new, inode 8: says that it has 2 links, and has 1 [mended]\n"));
	told = check(w, true);
	assert_int_equal(told.result.n_found, 2);
}

/* Whatever a session goes through without damage, a check has nothing to say. */
static void a_sound_session_is_clean(void **state)
{
	struct world *w = *state;

	for (unsigned int i = 0; i < 12; i++) {
		char name[8], file[16], moved[16];
		const struct op ops[] = {
			{OP_MKFILE, file, NULL, 0, 0, 0},        {OP_WRITE, file, NULL, i, i, 300},
			{OP_WRITE, "file", NULL, i, i, 8},       {OP_LINK, file, moved, 0, 0, 0},
			{OP_UNLINK, file, NULL, 0, 0, 0},        {OP_TRUNCATE, "dir/child", NULL, 0, i * 3, 0},
			{OP_RENAME, "dir", "made/dir", 0, 0, 0}, {OP_RENAME, "made/dir", "dir", 0, 0, 0},
			{OP_MKDIR, file, NULL, 0, 0, 0},         {OP_RMDIR, file, NULL, 0, 0, 0},
		};

		snprintf(name, sizeof(name), "s%u", i);
		snprintf(file, sizeof(file), "made/f%u", i);
		snprintf(moved, sizeof(moved), "dir/m%u", i);
		for (size_t k = 0; k < ARRAY_LEN(ops); k++)
			expect_status(op_tree(w, &ops[k]), 0, "round %u step %zu", i, k);
		if (i % 2)
			tree_hold(&w->tree, world_ino(w, moved));
		if (i % 2)
			assert_int_equal(tree_unlink(&w->tree, world_ino(w, "dir"), moved + 4), 0);
		if (i % 3 == 0)
			world_snapshot(w, name);
		if (i % 4 == 3)
			world_reset(w, NULL);
		world_crash(w);
		expect_clean(w, "a killed session");
		world_open(w);
		if (i == 7)
			world_delete(w, "s3");
		if (i == 9)
			world_reset(w, "s0");
		world_close(w);
		expect_clean(w, "a closed session");
		world_open(w);
	}
}

enum part { PART_INODE, PART_ENTRY, PART_NAME };

/* A field of 4 bytes (a name: 1) in a row counted from 0, and what a check says when it has another value. */
static const struct {
	enum part part;
	unsigned int row;
	size_t field;
	uint32_t value;
	const char *says;
} rows[] = {
	{PART_INODE, 0, offsetof(struct disk_inode, mode), S_IFREG | 0644, "inode 1, the root, is no directory"},
	{PART_INODE, 1, offsetof(struct disk_inode, mode), 0644, "inode 2 is of no type (mode 0644)"},
	{PART_INODE, 0, offsetof(struct disk_inode, nlink), 7, "inode 1 says that it has 7 links, and has 3"},
	{PART_INODE, 3, offsetof(struct disk_inode, nlink), 1, "inode 4 says that it has 1 links, and has 2"},
	{PART_INODE, 0, offsetof(struct disk_inode, first), 1000,
         "directory 1 has entries behind the end of the table"},
	{PART_INODE, 0, offsetof(struct disk_inode, count), 2, "the directories have 5 entries, the table 7"},
	{PART_INODE, 2, offsetof(struct disk_inode, first), 3, "lies among those of directory 3 and says 1"},
	{PART_INODE, 2, offsetof(struct disk_inode, entry), 0, "inode 3 is said to be named by an entry that does not"},
	{PART_INODE, 2, offsetof(struct disk_inode, entry), 5000,
         "inode 3 has a size or a time that none can have, or is named"},
	{PART_INODE, 1, offsetof(struct disk_inode, size) + 4, 0x80000000,
         "inode 2 has a size or a time that none can"},
	{PART_INODE, 1, offsetof(struct disk_inode, mtime.nsec), 1000000000,
         "inode 2 has a size or a time that none can"},
	{PART_INODE, 1, offsetof(struct disk_inode, ctime.nsec), UINT32_MAX,
         "inode 2 has a size or a time that none can"},
	{PART_INODE, 0, offsetof(struct disk_inode, entry), 0, "inode 1 is said to be named by an entry that does not"},
	{PART_INODE, 4, offsetof(struct disk_inode, first), 4000, "inode 5 has a link target that none can be"},
	{PART_INODE, 4, offsetof(struct disk_inode, count), 2, "inode 5 has a link target that none can be"},
	{PART_INODE, 1, offsetof(struct disk_inode, xattrs_len), 9, "inode 2 has extended attributes that cannot be"},
	{PART_ENTRY, 0, offsetof(struct disk_entry, ino), 99, "in directory 1 names inode 99, which is nowhere"},
	{PART_ENTRY, 0, offsetof(struct disk_entry, ino), 3, "inode 2 has no name"},
	{PART_ENTRY, 0, offsetof(struct disk_entry, ino), 3, "directory 3 has 2 names"},
	{PART_ENTRY, 1, offsetof(struct disk_entry, ino), 4, "inode 3 has no name"},
	{PART_ENTRY, 1, offsetof(struct disk_entry, ino), 7, "no path leads to inode 6"},
	{PART_ENTRY, 6, offsetof(struct disk_entry, ino), 1, "directory 1 has 1 names"},
	{PART_ENTRY, 0, offsetof(struct disk_entry, parent), 3, "entry 0 lies among those of directory 1 and says 3"},
	{PART_ENTRY, 0, offsetof(struct disk_entry, name), 60000, "entry 0 has a name that none can be"},
	{PART_ENTRY, 0, offsetof(struct disk_entry, name_len), 0, "entry 0 has a name that none can be"},
	{PART_NAME, 0, 1, '/', "entry 0 has a name that none can be"},
	{PART_NAME, 0, 0, 'z', "the names of directory 1 are not in order at entry 1"},
	{PART_NAME, 0, 5, 's', "entry 0 is called .umlfs"},
};

static uint64_t section_at(const struct disk_index_header *h, unsigned int section)
{
	uint64_t offset = sizeof(*h);

	for (unsigned int i = 0; i < section; i++)
		offset += from_le64(h->sections[i].len);
	return offset;
}

/* Puts a value into an index of len bytes and makes its checksums right again. */
static void patch(unsigned char *bytes, size_t nr)
{
	static const unsigned int sections[] = {INDEX_SECTION_INODES, INDEX_SECTION_ENTRIES, INDEX_SECTION_NAMES};
	static const size_t sizes[] = {sizeof(struct disk_inode), sizeof(struct disk_entry), 0};
	struct disk_index_header h;
	unsigned char *at;
	struct le32 value = le32(rows[nr].value);

	memcpy(&h, bytes, sizeof(h));
	at = bytes + section_at(&h, sections[rows[nr].part]) + rows[nr].row * sizes[rows[nr].part] + rows[nr].field;
	memcpy(at, &value, rows[nr].part == PART_NAME ? 1 : sizeof(value));
	h.flags = le32(0); /* as of an imported base */
	for (unsigned int s = 0; s < INDEX_SECTIONS; s++)
		h.sections[s].checksum =
			le64(checksum64(bytes + section_at(&h, s), (size_t)from_le64(h.sections[s].len), s));
	h.checksum = le64(checksum64(&h, offsetof(struct disk_index_header, checksum), 0));
	memcpy(bytes, &h, sizeof(h));
}

static void every_row_of_an_index_is_checked(void **state)
{
	struct world *w = *state;

	world_close(w);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct findings findings = {0};
		struct index *ix;
		bool said = false;
		size_t len;
		unsigned char *bytes = place_get(w->place.fd, "session/base.index", &len);

		patch(bytes, i);
		place_put(w->place.fd, "patched", bytes, len);
		free(bytes);
		expect_status(index_open(w->place.fd, "patched", "patched", &w->place.log, &ix), 0, "row %zu", i);
		assert_int_equal(check_index(ix, "patched", &findings), 0);
		for (size_t k = 0; k < findings.n; k++)
			said = said || strstr(findings.list[k].shown.what, rows[i].says);
		if (!said)
			fail_msg("row %zu: not said: %s; said: %s", i, rows[i].says,
			         findings.n ? findings.list[0].shown.what : "nothing");
		findings_fini(&findings);
		index_free(ix);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_a_record_can_mend_is_mended),
		TEST(a_lost_empty_directory_goes),
		TEST(what_nobody_can_decide_is_told_and_left),
		TEST(damage_of_a_snapshot_is_told_with_its_name),
		TEST(a_sound_session_is_clean),
		TEST(every_row_of_an_index_is_checked),
	};

	umask(0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
