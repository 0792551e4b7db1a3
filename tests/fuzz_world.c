/*
 * fuzz_world: makes the base and sessions on it, and looks at what became of them.
 * Invariant: the base is as it was before and after every input.
 * Called by the fuzz targets.
 */
#include "fuzz_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checksum.h"
#include "fuzz.h"
#include "index_build.h"
#include "io.h"
#include "umlfs/check.h"
#include "unit.h"

enum { BASE_TIME = 1000000000, FILE_BYTES = 5000, COPY_WHOLE = 2000 /* so that files are copied up in parts */ };

static struct {
	struct world w;
	bool made;
	int first_free; /* descriptor at the start of an input */
} all;

static const unsigned char attributes[] = {6, 5, 0, 0, 0, 'u', 's', 'e', 'r', '.', 'x', 'v', 'a', 'l', 'u', 'e'};

/* What the base holds; parents come first. */
static const struct member {
	const char *path;
	uint32_t mode;
	const char *more; /* symlinks: the target; files: another name of theirs */
} members[] = {
	{"dir", S_IFDIR | 0755, NULL},       {"dir/sub", S_IFDIR | 02775, NULL}, {"dir/sub/deep", S_IFREG | 0600, NULL},
	{"empty", S_IFDIR | 01777, NULL},    {"file", S_IFREG | 04755, "hard"},  {"dir/child", S_IFREG | 0644, NULL},
	{"link", S_IFLNK | 0777, "dir/sub"}, {"char", S_IFCHR | 0666, NULL},     {"dir/fifo", S_IFIFO | 0600, NULL},
};

static void put_content(int basefd, const char *path)
{
	const struct timespec times[2] = {{.tv_sec = BASE_TIME}, {.tv_sec = BASE_TIME}};
	char bytes[FILE_BYTES];

	memset(bytes, path[0], sizeof(bytes));
	place_put(basefd, path, bytes, sizeof(bytes));
	assert_int_equal(utimensat(basefd, path, times, 0), 0);
}

static void add_member(struct build *b, int basefd, const struct member *m)
{
	struct build_node *parent = build_root(b), *node;
	const char *name = m->path;

	for (const char *slash; (slash = strchr(name, '/')); name = slash + 1)
		assert_int_equal(build_find(b, parent, name, (size_t)(slash - name), &parent), 0);
	assert_int_equal(build_add(b, parent, name, strlen(name), m->mode, &node), 0);
	node->mtime = node->ctime = (struct timespec){.tv_sec = BASE_TIME};
	if (S_ISDIR(m->mode))
		assert_int_equal(mkdirat(basefd, m->path, 0755), 0);
	if (S_ISLNK(m->mode))
		assert_int_equal(build_set_target(node, m->more, strlen(m->more)), 0);
	if (!S_ISREG(m->mode))
		return;
	put_content(basefd, m->path);
	node->size = FILE_BYTES;
	node->blocks = 16;
	node->stamp = UINT64_C(1000000000) * BASE_TIME;
	assert_int_equal(build_set_xattrs(node, attributes, sizeof(attributes)), 0);
	if (m->more)
		assert_int_equal(build_link(b, build_root(b), m->more, strlen(m->more), node), 0);
}

static void fill_base(int basefd)
{
	struct build *b;
	int fd;

	assert_int_equal(build_new(0, &b), 0);
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		add_member(b, basefd, &members[i]);
	assert_int_equal(mkdirat(basefd, ".umlfs", 0700), 0);
	fd = openat(basefd, ".umlfs/index", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(build_write(b, fd), 0);
	close(fd);
	build_free(b);
}

static void remove_all(void)
{
	world_fini(&all.w);
}

/* The lowest number that is free grows when a descriptor is left open. */
static int first_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

struct world *fuzz_begin(void)
{
	if (!all.made) {
		world_make_base(&all.w, fill_base);
		all.w.copy_whole = COPY_WHOLE;
		all.made = true;
		atexit(remove_all);
	}
	place_forget_lines(&all.w.place);
	all.first_free = first_free();
	return &all.w;
}

void fuzz_end(struct world *w)
{
	int fd;

	world_crash(w);
	expect_status(io_remove_tree(w->place.fd, "session"), 0, "removing the session");
	assert_int_equal(first_free(), all.first_free);
	fd = openat(w->place.fd, "base", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(place_has(fd, "dir/sub/deep") && !place_has(fd, ".umlfs/index.new"));
	close(fd);
}

void fuzz_put_index(struct world *w, const void *bytes, size_t len)
{
	/* Made anew, because sessions have links to it. */
	unlinkat(w->place.fd, "base/.umlfs/index", 0);
	place_put(w->place.fd, "base/.umlfs/index", bytes, len);
}

unsigned char *fuzz_get_index(struct world *w, size_t *len_out)
{
	return place_get(w->place.fd, "base/.umlfs/index", len_out);
}

size_t fuzz_take(struct world *w, const char *path, unsigned char *bytes)
{
	size_t len;
	unsigned char *made = place_get(w->place.fd, path, &len);

	assert_true(len <= FUZZ_INPUT_MAX);
	memcpy(bytes, made, len);
	free(made);
	return len;
}

void fuzz_make_session(struct world *w, unsigned int layers)
{
	static const struct tree_new file = {.mode = S_IFREG | 0644}, dir = {.mode = S_IFDIR | 0755};
	char name[16];

	world_open(w);
	for (unsigned int i = 1; i <= layers; i++) {
		struct inode made, found;

		snprintf(name, sizeof(name), "d%u", i);
		assert_int_equal(tree_make(&w->tree, 1, name, &dir, &made), 0);
		assert_int_equal(tree_make(&w->tree, made.ino, "new", &file, &found), 0);
		assert_int_equal(tree_write(&w->tree, found.ino, "fresh", 5, 10), 5);
		assert_int_equal(tree_lookup(&w->tree, 1, "file", &found), 0);
		assert_int_equal(tree_write(&w->tree, found.ino, "again", 5, 10), 5);
		assert_int_equal(tree_rename(&w->tree, 1, i % 2 ? "link" : "other", 1, i % 2 ? "other" : "link", 0), 0);
		snprintf(name, sizeof(name), "s%u", i);
		if (i < layers)
			world_snapshot(w, name);
	}
	world_close(w);
	place_forget_lines(&w->place);
}

static void print_finding(void *arg, const struct finding *f)
{
	if (*(const bool *)arg)
		fprintf(stderr, "check: %s %s: %s\n", f->kind, f->where, f->what);
}

size_t fuzz_check(struct world *w, bool print)
{
	struct check_result result = {.n_found = 0};
	struct check_options options = {
		.path = w->session, .log = &w->place.log, .found = print_finding, .arg = &print};

	unsigned int said = w->place.n_errors;
	int r = check_run(&options, &result);

	if (r < 0 && (print || w->place.n_errors == said))
		fail_msg("check: %s\n%s", strerror(-r), w->place.lines);
	return r < 0 ? 1 : result.n_found;
}

void fuzz_expect_sound(struct world *w, bool crash)
{
	uint64_t before = fuzz_walk(w);
	size_t found;

	if (crash)
		world_crash(w);
	else
		world_close(w);
	world_open(w);
	if (fuzz_walk(w) != before)
		fail_msg("the session is not what it was before it was closed");
	world_close(w);
	found = fuzz_check(w, true);
	if (found > 0)
		fail_msg("check has %zu findings", found);
}
