/*
 * unit_compare: index_compare names the paths that differ and why.
 * Invariant: each case changes one thing in a tree that is otherwise the same.
 * Called by meson test.
 */
#include <fcntl.h>
#include <unistd.h>

#include "index.h"
#include "index_build.h"
#include "unit.h"
#include "unit_place.h"

static const unsigned char set_a[] = {1, 1, 0, 0, 0, 'a', 'x'}, set_b[] = {1, 1, 0, 0, 0, 'a', 'y'};

struct nodes {
	struct build *build;
	struct build_node *dir, *file, *link, *dev, *hard;
};

static struct nodes make(void)
{
	struct nodes n;
	struct build_node *deep;

	assert_int_equal(build_new(0, &n.build), 0);
	assert_int_equal(build_add(n.build, build_root(n.build), "dir", 3, S_IFDIR | 0755, &n.dir), 0);
	assert_int_equal(build_add(n.build, n.dir, "file", 4, S_IFREG | 0644, &n.file), 0);
	assert_int_equal(build_add(n.build, n.dir, "zz", 2, S_IFREG | 0644, &deep), 0);
	assert_int_equal(build_add(n.build, build_root(n.build), "hard", 4, S_IFREG | 0644, &n.hard), 0);
	assert_int_equal(build_link(n.build, n.dir, "hard2", 5, n.hard), 0);
	assert_int_equal(build_add(n.build, build_root(n.build), "link", 4, S_IFLNK | 0777, &n.link), 0);
	assert_int_equal(build_set_target(n.link, "there", 5), 0);
	assert_int_equal(build_add(n.build, build_root(n.build), "dev", 3, S_IFCHR | 0644, &n.dev), 0);
	assert_int_equal(build_set_xattrs(n.file, set_a, sizeof(set_a)), 0);
	return n;
}

static void add(struct nodes *n, const char *name)
{
	struct build_node *node;

	assert_int_equal(build_add(n->build, n->dir, name, strlen(name), S_IFREG | 0644, &node), 0);
}

/* Replaces dir/zz by something of another type. */
static void change_type(struct nodes *n)
{
	struct build_node *node;

	assert_int_equal(build_unlink(n->build, n->dir, "zz", 2), 0);
	assert_int_equal(build_add(n->build, n->dir, "zz", 2, S_IFDIR | 0644, &node), 0);
	assert_int_equal(build_add(n->build, node, "below", 5, S_IFREG, &node), 0);
}

enum change {
	NOTHING,
	ROOT_MODE,
	MODE,
	UID,
	GID,
	RDEV,
	TARGET,
	SIZE,
	MTIME,
	STAMP,
	CHECKSUM,
	XATTRS,
	NO_XATTRS,
	CTIME,
	GONE,
	NEW,
	TYPE,
	LINKS,
	BLOCKS,
};

static void apply(struct nodes *n, enum change change)
{
	switch (change) {
	case NOTHING:
		break;
	case ROOT_MODE:
		build_root(n->build)->mode = S_IFDIR | 0700;
		break;
	case MODE:
		n->file->mode ^= 0100;
		break;
	case UID:
		n->dir->uid = 5;
		break;
	case GID:
		n->link->gid = 5;
		break;
	case RDEV:
		n->dev->rdev = 5;
		break;
	case TARGET:
		assert_int_equal(build_set_target(n->link, "where", 5), 0);
		break;
	case SIZE:
		n->file->size = 5;
		break;
	case MTIME:
		n->dir->mtime.tv_nsec = 1;
		break;
	case STAMP:
		n->file->stamp = 1;
		break;
	case CHECKSUM:
		n->file->checksum = 1;
		break;
	case XATTRS:
		assert_int_equal(build_set_xattrs(n->file, set_b, sizeof(set_b)), 0);
		break;
	case NO_XATTRS:
		assert_int_equal(build_set_xattrs(n->file, set_b, 0), 0);
		break;
	case CTIME:
		n->dev->ctime.tv_sec = 1;
		break;
	case GONE:
		assert_int_equal(build_unlink(n->build, n->dir, "file", 4), 0);
		break;
	case NEW:
		add(n, "new\n");
		break;
	case TYPE:
		change_type(n);
		break;
	case LINKS:
		assert_int_equal(build_link(n->build, n->dir, "third", 5, n->hard), 0);
		break;
	case BLOCKS:
		n->file->blocks = 9;
		break;
	}
}

static struct index *write_and_open(struct place *p, struct nodes *n, const char *name)
{
	int fd = openat(p->fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	struct index *ix;

	assert_int_equal(build_write(n->build, fd), 0);
	build_free(n->build);
	close(fd);
	assert_int_equal(index_open(p->fd, name, name, NULL, &ix), 0);
	return ix;
}

static int compare(struct place *p, enum change a, enum change b, unsigned int most)
{
	struct nodes before = make(), now = make();
	struct index *ix_before, *ix_now;
	int n;

	apply(&before, a);
	apply(&now, b);
	ix_before = write_and_open(p, &before, "before");
	ix_now = write_and_open(p, &now, "now");
	place_forget_lines(p);
	n = index_compare(ix_before, ix_now, most, &p->log);
	index_free(ix_before);
	index_free(ix_now);
	return n;
}

static void every_kind_of_difference_is_named(void **state)
{
	static const struct {
		enum change change;
		const char *lines; /* from the unchanged tree to the changed one */
		const char *back;  /* and the other way; NULL: the same */
	} cases[] = {
		{NOTHING, "", NULL},
		{ROOT_MODE, "  .: another mode\n", NULL},
		{MODE, "  dir/file: another mode\n", NULL},
		{UID, "  dir: another owner\n", NULL},
		{GID, "  link: another owner\n", NULL},
		{RDEV, "  dev: another device number\n", NULL},
		{TARGET, "  link: another link target\n", NULL},
		{SIZE, "  dir/file: another size\n", NULL},
		{MTIME, "  dir: modified since\n", NULL},
		{STAMP, "  dir/file: modified since\n", NULL},
		{CHECKSUM, "  dir/file: another content\n", NULL},
		{XATTRS, "  dir/file: other extended attributes\n", NULL},
		{NO_XATTRS, "  dir/file: other extended attributes\n", NULL},
		{CTIME, "  dev: its inode was changed since\n", NULL},
		{GONE, "  dir/file: it is gone\n", "  dir/file: it is new\n"},
		{NEW, "  dir/new?: it is new\n", "  dir/new?: it is gone\n"},
		{TYPE, "  dir/zz: another type\n  dir/zz/below: it is new\n",
	         "  dir/zz: another type\n  dir/zz/below: it is gone\n"},
		{LINKS,
	         "  hard: another number of links\n  dir/hard2: another number of links\n  dir/third: it is new\n",
	         "  hard: another number of links\n  dir/hard2: another number of links\n  dir/third: it is gone\n"},
		{BLOCKS, "  dir/file: another number of blocks\n", NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct place *p = *state;
		const char *back = cases[i].back ? cases[i].back : cases[i].lines;
		int n = compare(p, NOTHING, cases[i].change, 100);

		/* As many lines as it says. */
		assert_string_equal(p->lines, cases[i].lines);
		assert_int_equal(n, p->n_errors);
		assert_int_equal(compare(p, cases[i].change, NOTHING, 100), n);
		assert_string_equal(p->lines, back);
	}
}

static void only_the_first_are_named(void **state)
{
	struct place *p = *state;

	assert_int_equal(compare(p, NOTHING, LINKS, 2), 2);
	assert_string_equal(p->lines, "  hard: another number of links\n  dir/hard2: another number of links\n");
	assert_int_equal(compare(p, NOTHING, LINKS, 1), 1);
	assert_int_equal(compare(p, ROOT_MODE, GONE, 1), 1);
	assert_string_equal(p->lines, "  .: another mode\n");
}

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(every_kind_of_difference_is_named),
		TEST(only_the_first_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
