/*
 * unit_index: promises of index_build, index and index_compare.
 * Invariant: damage is tried on every byte of a small index that has one of everything.
 * Called by meson test.
 */
#include "index.h"

#include <fcntl.h>
#include <unistd.h>

#include "checksum.h"
#include "format.h"
#include "index_build.h"
#include "unit.h"
#include "unit_place.h"

static int setup(void **state)
{
	struct place *p = malloc(sizeof(*p));

	place_make(p);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	place_remove(*state);
	free(*state);
	return 0;
}

static char name_255[256];

/* What the test tree holds; parents come first in this order, and links behind what they link to. */
static const struct member {
	const char *parent, *name; /* parent: the name of a directory, NULL: the root */
	uint32_t mode;
	const char *link; /* another name of this one */
} members[] = {
	{NULL, "dir", S_IFDIR | 0755, NULL},
	{"dir", "sub", S_IFDIR | 01777, NULL},
	{"sub", "deep", S_IFREG | 0644, NULL},
	{NULL, "file", S_IFREG | 04755, NULL},
	{"sub", "hard", 0, "file"},
	{NULL, "a-hard", 0, "file"},
	{NULL, "link", S_IFLNK | 0777, NULL},
	{NULL, "char", S_IFCHR | 0666, NULL},
	{NULL, "block", S_IFBLK | 0660, NULL},
	{"dir", "fifo", S_IFIFO | 0600, NULL},
	{"dir", "sock", S_IFSOCK | 0600, NULL},
	{NULL, "\xff\xfe not UTF-8\n", S_IFREG | 0, NULL},
	{"dir", name_255, S_IFREG | 0644, NULL},
	{NULL, "empty", S_IFDIR | 0, NULL},
	{NULL, "dir.", S_IFREG | 0644, NULL},
};

static size_t name_len(const struct member *m)
{
	return strlen(m->name);
}

static const unsigned char xattrs[] = {6, 5, 0, 0, 0, 'u', 's', 'e', 'r', '.', 'x', 'v', 'a', 'l', 'u', 'e'};

/* Everything of a member follows from its place in the list. */
static void fill_node(struct build_node *node, size_t nr)
{
	node->uid = (uint32_t)nr * 1000;
	node->gid = UINT32_MAX - (uint32_t)nr;
	node->mtime = (struct timespec){(time_t)nr - 3, 999999999};
	node->ctime = (struct timespec){INT64_C(1) << 36, (long)nr};
	node->stamp = UINT64_MAX - nr;
	node->size = (UINT64_C(1) << 40) + nr;
	node->blocks = nr * 8;
	node->checksum = nr + 77;
	if (S_ISCHR(node->mode) || S_ISBLK(node->mode))
		node->rdev = UINT64_C(4) << 32 | nr;
	if (S_ISLNK(node->mode))
		assert_int_equal(build_set_target(node, "../somewhere", 12), 0);
	if (nr % 3 == 0)
		assert_int_equal(build_set_xattrs(node, xattrs, sizeof(xattrs)), 0);
}

static void add_member(struct build *b, struct build_node *nodes[], size_t nr)
{
	const struct member *m = &members[nr];
	struct build_node *parent = build_root(b);

	for (size_t i = 0; m->parent && i < ARRAY_LEN(members); i++) {
		if (strcmp(members[i].name, m->parent) == 0)
			parent = nodes[i];
	}
	for (size_t i = 0; m->link && i < ARRAY_LEN(members); i++) {
		if (strcmp(members[i].name, m->link) == 0)
			assert_int_equal(build_link(b, parent, m->name, name_len(m), nodes[i]), 0);
	}
	if (m->link)
		return;
	assert_int_equal(build_add(b, parent, m->name, name_len(m), m->mode, &nodes[nr]), 0);
	fill_node(nodes[nr], nr);
}

static void write_build(struct place *p, struct build *b, const char *name)
{
	int fd = openat(p->fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	expect_status(build_write(b, fd), 0, "writing %s", name);
	close(fd);
	build_free(b);
}

/* The members in another order for every seed: each as soon as what it needs is there. */
static struct build *make_build(uint64_t seed)
{
	struct unit_random random = {seed};
	struct build_node *nodes[ARRAY_LEN(members)] = {NULL};
	bool done[ARRAY_LEN(members)] = {false};
	struct build *b;

	memset(name_255, 'N', 255);
	assert_int_equal(build_new(0, &b), 0);
	for (size_t left = ARRAY_LEN(members); left > 0;) {
		size_t nr = seed ? unit_random(&random, ARRAY_LEN(members)) : ARRAY_LEN(members) - left;
		bool ready = !done[nr];

		for (size_t i = 0; i < ARRAY_LEN(members); i++) {
			if ((members[nr].parent && strcmp(members[i].name, members[nr].parent) == 0) ||
			    (members[nr].link && strcmp(members[i].name, members[nr].link) == 0))
				ready = ready && done[i];
		}
		if (!ready)
			continue;
		add_member(b, nodes, nr);
		done[nr] = true;
		left--;
	}
	return b;
}

static struct index *open_index(struct place *p, const char *name)
{
	struct index *ix;

	expect_status(index_open(p->fd, name, name, &p->log, &ix), 0, "opening %s: %s", name, p->lines);
	return ix;
}

static uint64_t find(const struct index *ix, const char *parent, const char *name, size_t len)
{
	uint64_t dir = 1, ino = 0;

	if (parent && strcmp(parent, "sub") == 0)
		assert_int_equal(index_lookup(ix, 1, "dir", 3, &dir), 0);
	if (parent)
		assert_int_equal(index_lookup(ix, dir, parent, strlen(parent), &dir), 0);
	assert_int_equal(index_lookup(ix, dir, name, len, &ino), 0);
	return ino;
}

static void expect_member(const struct index *ix, size_t nr)
{
	const struct member *m = &members[nr];
	uint64_t ino = find(ix, m->parent, m->name, name_len(m));
	struct index_content content;
	struct xattr_set set;
	const char *target;
	struct inode i;
	size_t len;

	assert_int_equal(index_inode(ix, ino, &i), 0);
	if (m->link) {
		assert_int_equal(ino, find(ix, NULL, "file", 4));
		assert_int_equal(i.nlink, 3);
		return;
	}
	assert_int_equal(i.mode, m->mode);
	assert_int_equal(i.uid, nr * 1000);
	assert_int_equal(i.gid, UINT32_MAX - nr);
	assert_int_equal(i.rdev, S_ISCHR(i.mode) || S_ISBLK(i.mode) ? UINT64_C(4) << 32 | nr : 0);
	assert_true(i.mtime.tv_sec == (time_t)nr - 3 && i.mtime.tv_nsec == 999999999);
	assert_true(i.ctime.tv_sec == INT64_C(1) << 36 && i.ctime.tv_nsec == (long)nr);
	assert_int_equal(i.blocks, nr * 8);
	assert_int_equal(i.size, S_ISLNK(i.mode) ? 12 : (UINT64_C(1) << 40) + nr);
	assert_int_equal(index_content(ix, ino, &content), 0);
	assert_true(content.stamp == UINT64_MAX - nr && content.checksum == nr + 77);
	assert_int_equal(index_xattrs(ix, ino, &set), 0);
	assert_int_equal(set.len, nr % 3 ? 0 : sizeof(xattrs));
	assert_int_equal(index_target(ix, ino, &target, &len), S_ISLNK(i.mode) ? 0 : -EINVAL);
	if (S_ISLNK(i.mode))
		assert_memory_equal(target, "../somewhere", 12);
}

static void what_is_built_is_read(void **state)
{
	struct place *p = *state;
	struct inode i;
	struct index *ix;
	uint64_t ino, count;
	char *path;

	write_build(p, make_build(0), "index");
	ix = open_index(p, "index");
	assert_int_equal(index_n_inodes(ix), ARRAY_LEN(members) + 1 - 2);
	assert_int_equal(index_n_entries(ix), ARRAY_LEN(members));
	for (size_t nr = 0; nr < ARRAY_LEN(members); nr++)
		expect_member(ix, nr);
	assert_int_equal(index_inode(ix, 1, &i), 0);
	assert_int_equal(i.nlink, 4);
	assert_int_equal(i.parent, 1);
	assert_int_equal(index_path(ix, find(ix, "sub", "deep", 4), &path), 0);
	assert_string_equal(path, "dir/sub/deep");
	free(path);
	assert_int_equal(index_lookup(ix, 1, "dir.x", 5, &ino), -ENOENT);
	assert_int_equal(index_lookup(ix, 1, "di", 2, &ino), -ENOENT);
	assert_int_equal(index_lookup(ix, 999, "dir", 3, &ino), -ENOENT);
	assert_int_equal(index_dir(ix, find(ix, NULL, "file", 4), &ino, &count), -ENOTDIR);
	assert_int_equal(index_dir(ix, find(ix, NULL, "empty", 5), &ino, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(index_inode(ix, 0, &i), -ESTALE);
	assert_int_equal(index_inode(ix, index_n_inodes(ix) + 1, &i), -ESTALE);
	index_free(ix);
}

static void the_order_of_building_does_not_matter(void **state)
{
	struct place *p = *state;
	unsigned char *want, *got;
	size_t want_len, len;

	write_build(p, make_build(0), "want");
	want = place_get(p->fd, "want", &want_len);
	for (uint64_t seed = 1; seed < 50; seed++) {
		write_build(p, make_build(seed), "got");
		got = place_get(p->fd, "got", &len);
		assert_int_equal(len, want_len);
		assert_memory_equal(got, want, len);
		free(got);
	}
	free(want);
}

static void what_was_taken_away_again_leaves_no_trace(void **state)
{
	struct place *p = *state;
	struct build_node *dir, *node;
	unsigned char *want, *got;
	size_t want_len, len;
	struct build *b;

	write_build(p, make_build(0), "want");
	b = make_build(3);
	assert_int_equal(build_add(b, build_root(b), "aa", 2, S_IFDIR | 0755, &dir), 0);
	assert_int_equal(build_add(b, dir, "x", 1, S_IFREG, &node), 0);
	assert_int_equal(build_link(b, dir, "y", 1, node), 0);
	assert_int_equal(build_names_of(node), 2);
	assert_int_equal(build_link(b, dir, "z", 1, dir), -EPERM);
	assert_int_equal(build_unlink(b, build_root(b), "aa", 2), -ENOTEMPTY);
	assert_int_equal(build_unlink(b, dir, "x", 1), 0);
	assert_int_equal(build_unlink(b, dir, "x", 1), -ENOENT);
	assert_int_equal(build_unlink(b, dir, "y", 1), 0);
	assert_int_equal(build_unlink(b, build_root(b), "aa", 2), 0);
	assert_int_equal(build_n_names(b), ARRAY_LEN(members));
	write_build(p, b, "got");
	want = place_get(p->fd, "want", &want_len);
	got = place_get(p->fd, "got", &len);
	assert_int_equal(len, want_len);
	assert_memory_equal(got, want, len);
	free(got);
	free(want);
}

static void names_that_no_name_can_be_are_refused(void **state)
{
	static const struct {
		const char *name;
		size_t len;
		int status;
	} cases[] = {
		{"", 0, -EINVAL},     {".", 1, -EINVAL},    {"..", 2, -EINVAL}, {"a/b", 3, -EINVAL},
		{"a\0b", 3, -EINVAL}, {"file", 4, -EEXIST}, {"...", 3, 0},
	};
	struct build *b = make_build(0);
	struct build_node *node;
	char longest[256];

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		expect_status(build_add(b, build_root(b), cases[i].name, cases[i].len, S_IFREG, &node), cases[i].status,
		              "name %zu", i);
	memset(longest, 'l', sizeof(longest));
	assert_int_equal(build_add(b, build_root(b), longest, 256, S_IFREG, &node), -ENAMETOOLONG);
	assert_int_equal(build_add(b, build_root(b), longest, 255, S_IFREG, &node), 0);
	build_free(b);
}

static void expect_refused(struct place *p, const unsigned char *bytes, size_t len, const char *what, size_t at)
{
	struct index *ix;
	int r;

	place_forget_lines(p);
	place_put(p->fd, "bad", bytes, len);
	r = index_open(p->fd, "bad", "base/.umlfs/index", &p->log, &ix);
	if (r == 0)
		fail_msg("%s %zu: accepted", what, at);
	expect_status(r, -EUCLEAN, "%s %zu", what, at);
	assert_int_equal(p->n_errors, 1);
	assert_ptr_equal(strstr(p->lines, "base/.umlfs/index: "), p->lines);
}

static void every_cut_and_every_flipped_bit_is_refused(void **state)
{
	struct place *p = *state;
	unsigned char *bytes;
	size_t len;

	write_build(p, make_build(0), "index");
	bytes = place_get(p->fd, "index", &len);
	for (size_t cut = 0; cut < len; cut++)
		expect_refused(p, bytes, cut, "cut at", cut);
	expect_refused(p, bytes, len + 1, "grown to", len + 1); /* with the NUL behind the bytes */
	for (size_t bit = 0; bit < len * 8; bit++) {
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
		expect_refused(p, bytes, len, "flipped bit", bit);
		bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
	}
	free(bytes);
}

/* Everything is right but that there is nothing in it: half a row is none. */
static void one_without_a_root_is_refused(void **state)
{
	static const size_t lengths[] = {0, sizeof(struct disk_inode) - 1};
	struct place *p = *state;
	unsigned char bytes[sizeof(struct disk_index_header) + sizeof(struct disk_inode)] = {0};

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
		struct disk_index_header header = {.version = le32(FORMAT_INDEX_VERSION)};

		memcpy(header.magic, FORMAT_INDEX_MAGIC, sizeof(header.magic));
		for (unsigned int s = 0; s < INDEX_SECTIONS; s++) {
			size_t len = s == INDEX_SECTION_INODES ? lengths[i] : 0;

			header.sections[s].len = le64(len);
			header.sections[s].checksum = le64(checksum64(bytes + sizeof(header), len, s));
		}
		header.checksum = le64(checksum64(&header, offsetof(struct disk_index_header, checksum), 0));
		memcpy(bytes, &header, sizeof(header));
		expect_refused(p, bytes, sizeof(header) + lengths[i], "inodes of bytes:", lengths[i]);
		assert_non_null(strstr(p->lines, "it has no root"));
	}
}

static void a_missing_one_is_left_to_the_caller_and_a_newer_one_named(void **state)
{
	struct place *p = *state;
	struct disk_index_header header = {.version = le32(2)};
	struct index *ix;

	assert_int_equal(index_open(p->fd, "absent", "label", &p->log, &ix), -ENOENT);
	assert_int_equal(p->n_errors, 0);
	memcpy(header.magic, FORMAT_INDEX_MAGIC, sizeof(header.magic));
	header.checksum = le64(checksum64(&header, offsetof(struct disk_index_header, checksum), 0));
	place_put(p->fd, "newer", &header, sizeof(header));
	assert_int_equal(index_open(p->fd, "newer", "label", &p->log, &ix), -EPROTONOSUPPORT);
	assert_non_null(strstr(p->lines, "label: made by a newer umlfs (version 2)"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_built_is_read),
		TEST(the_order_of_building_does_not_matter),
		TEST(what_was_taken_away_again_leaves_no_trace),
		TEST(names_that_no_name_can_be_are_refused),
		TEST(every_cut_and_every_flipped_bit_is_refused),
		TEST(one_without_a_root_is_refused),
		TEST(a_missing_one_is_left_to_the_caller_and_a_newer_one_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
