/*
 * unit_dump: walks trees and writes them down.
 * Invariant: every name that readdir gives is looked up too, so a dump also checks that the two agree.
 * Called by the unit tests.
 */
#include "unit_dump.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "checksum.h"
#include "unit.h"

enum { LINE = 8192, CHUNK = 1 << 16, MORE = 1024, LONG_AGO = 1000000000 };

struct lines {
	char **list;
	size_t n;
	struct link {
		uint64_t ino;
		char *path;
	} * links; /* first names of inodes that have several */
	size_t n_links;
	unsigned int what;
};

static void add_line(struct lines *lines, const char *line)
{
	lines->list = reallocarray(lines->list, lines->n + 1, sizeof(*lines->list));
	assert_non_null(lines->list);
	lines->list[lines->n++] = strdup(line);
}

/* The first path under which this inode came. */
static const char *first_path(struct lines *lines, uint64_t ino, const char *path)
{
	for (size_t i = 0; i < lines->n_links; i++) {
		if (lines->links[i].ino == ino)
			return lines->links[i].path;
	}
	lines->links = reallocarray(lines->links, lines->n_links + 1, sizeof(*lines->links));
	assert_non_null(lines->links);
	lines->links[lines->n_links++] = (struct link){ino, strdup(path)};
	return path;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static char *join(struct lines *lines)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	if (lines->n > 1)
		qsort(lines->list, lines->n, sizeof(*lines->list), by_text);
	for (size_t i = 0; i < lines->n; i++) {
		fprintf(out, "%s\n", lines->list[i]);
		free(lines->list[i]);
	}
	for (size_t i = 0; i < lines->n_links; i++)
		free(lines->links[i].path);
	free(lines->links);
	free(lines->list);
	fclose(out);
	return text;
}

static void put_line(struct lines *lines, const char *path, const struct inode *i, const char *content,
                     const char *more)
{
	bool is_dir = inode_is_dir(i);
	const char *first = is_dir || i->nlink < 2 ? "-" : first_path(lines, i->ino, path);
	char line[LINE];

	snprintf(line, sizeof(line), "%s %o %04o %u:%u %u %" PRIu64 " %" PRIx64 " %s %s%s", *path ? path : ".",
	         i->mode & S_IFMT, i->mode & 07777, i->uid, i->gid, i->nlink, is_dir ? 0 : i->size, i->rdev, content,
	         first, more);
	add_line(lines, line);
}

/* Names in the order of their bytes, so that "first" is the same for everybody. */
struct names {
	char **list;
	size_t n;
};

static void add_name(struct names *names, const char *name, size_t len)
{
	names->list = reallocarray(names->list, names->n + 1, sizeof(*names->list));
	assert_non_null(names->list);
	names->list[names->n++] = strndup(name, len);
}

static void sort_names(struct names *names)
{
	if (names->n > 1)
		qsort(names->list, names->n, sizeof(*names->list), by_text);
}

static int collect(void *arg, const struct stack_entry *entry)
{
	if (entry->cookie >= STACK_COOKIE_FIRST)
		add_name(arg, entry->name, entry->name_len);
	return 0;
}

static void hash_tree_file(struct world *w, const struct inode *i, char text[24])
{
	struct checksum_content *sum;
	static unsigned char bytes[CHUNK];
	int64_t at = 0;

	assert_int_equal(checksum_content_new(&sum), 0);
	while (at >= 0 && (uint64_t)at < i->size) {
		ssize_t n;

		at = tree_lseek(&w->tree, i->ino, (uint64_t)at, SEEK_DATA);
		if (at < 0) {
			expect_status(at, -ENXIO, "seeking data of inode %" PRIu64, i->ino);
			break;
		}
		n = tree_read(&w->tree, i->ino, bytes, sizeof(bytes), (uint64_t)at);
		if (n <= 0)
			fail_msg("reading inode %" PRIu64 " at %" PRId64 ": %zd\n%s", i->ino, at, n, w->place.lines);
		assert_true((uint64_t)(at + n) <= i->size);
		checksum_content_add(sum, bytes, (size_t)n, (uint64_t)at);
		at += n;
	}
	snprintf(text, 24, "%016" PRIx64, checksum_content_end(sum, i->size));
	checksum_content_free(sum);
}

/* Where an inode's attributes are: in a world, or under a path. */
struct attributes {
	struct world *w;
	uint64_t ino;
	const char *path;
};

static ssize_t list_of(const struct attributes *of, char *names, size_t size)
{
	ssize_t n = of->w ? tree_listxattr(&of->w->tree, of->ino, names, size) : llistxattr(of->path, names, size);

	return n < 0 ? 0 : n;
}

static ssize_t value_of(const struct attributes *of, const char *name, void *value, size_t size)
{
	return of->w ? tree_getxattr(&of->w->tree, of->ino, name, value, size) : lgetxattr(of->path, name, value, size);
}

/* mtime and the user's attributes, in an order of their own. */
static void describe_kept(const struct attributes *of, const struct inode *i, char more[MORE])
{
	static unsigned char value[CHUNK];
	struct names names = {0};
	size_t used = (size_t)snprintf(more, MORE, " now");
	char list[CHUNK / 8];
	ssize_t n = list_of(of, list, sizeof(list));

	if (i->mtime.tv_sec < LONG_AGO)
		used = (size_t)snprintf(more, MORE, " %lld.%09ld", (long long)i->mtime.tv_sec, i->mtime.tv_nsec);
	for (const char *name = list; name < list + n; name += strlen(name) + 1) {
		if (strncmp(name, "user.", 5) == 0)
			add_name(&names, name, strlen(name));
	}
	sort_names(&names);
	for (size_t k = 0; k < names.n; k++) {
		ssize_t len = value_of(of, names.list[k], value, sizeof(value));

		if (len < 0)
			fail_msg("the value of a listed attribute: %s: %zd", names.list[k], len);
		used += (size_t)snprintf(more + used, MORE - used, " %s=%zd:%016" PRIx64, names.list[k], len,
		                         len ? checksum64(value, (size_t)len, 0) : 0);
		assert_true(used < MORE);
		free(names.list[k]);
	}
	free(names.list);
}

static void describe_more(struct world *w, const struct inode *i, unsigned int what, char *more, size_t size)
{
	struct xattr_set set;
	size_t used;

	more[0] = '\0';
	if (what & DUMP_KEPT)
		describe_kept(&(struct attributes){.w = w, .ino = i->ino}, i, more);
	used = strlen(more);
	if (what & DUMP_INOS) {
		assert_int_equal(stack_xattrs(&w->store->session.stack, i->ino, &set), 0);
		used += (size_t)snprintf(more + used, size - used, " ino %" PRIu64 " xattrs %016" PRIx64, i->ino,
		                         set.len ? checksum64(set.bytes, set.len, 0) : 0);
	}
	if (what & DUMP_TIMES)
		snprintf(more + used, size - used, " %lld.%09ld %lld.%09ld %lld.%09ld", (long long)i->atime.tv_sec,
		         i->atime.tv_nsec, (long long)i->mtime.tv_sec, i->mtime.tv_nsec, (long long)i->ctime.tv_sec,
		         i->ctime.tv_nsec);
}

static void walk_world(struct world *w, unsigned int what, struct lines *lines, const char *path, uint64_t ino)
{
	char content[LINE / 2] = "-";
	struct names names = {0};
	const char *target;
	struct inode i;
	char more[MORE];
	size_t len;

	expect_status(tree_getattr(&w->tree, ino, &i), 0, "getattr %s", path);
	if (S_ISREG(i.mode))
		hash_tree_file(w, &i, content);
	if (S_ISLNK(i.mode)) {
		expect_status(tree_readlink(&w->tree, ino, &target, &len), 0, "readlink %s", path);
		snprintf(content, sizeof(content), "%.*s", (int)len, target);
	}
	describe_more(w, &i, what, more, sizeof(more));
	put_line(lines, path, &i, content, more);
	if (!inode_is_dir(&i))
		return;
	expect_status(tree_readdir(&w->tree, ino, 0, collect, &names), 0, "readdir %s", path);
	sort_names(&names);
	for (size_t n = 0; n < names.n; n++) {
		struct inode child;
		char below[LINE / 4];

		snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", names.list[n]);
		expect_status(tree_lookup(&w->tree, ino, names.list[n], &child), 0, "lookup of listed %s", below);
		if (inode_is_dir(&child))
			assert_int_equal(child.parent, ino);
		walk_world(w, what, lines, below, child.ino);
		free(names.list[n]);
	}
	free(names.list);
}

char *dump_world(struct world *w, unsigned int what)
{
	struct lines lines = {0};

	walk_world(w, what, &lines, "", 1);
	return join(&lines);
}

static void hash_host_file(int dirfd, const char *path, uint64_t size, char text[24])
{
	int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct checksum_content *sum;
	static unsigned char bytes[CHUNK];
	uint64_t at = 0;
	ssize_t n;

	if (fd < 0)
		fail_msg("%s: %s", path, strerror(errno));
	assert_int_equal(checksum_content_new(&sum), 0);
	while ((n = pread(fd, bytes, sizeof(bytes), (off_t)at)) > 0) {
		checksum_content_add(sum, bytes, (size_t)n, at);
		at += (uint64_t)n;
	}
	close(fd);
	snprintf(text, 24, "%016" PRIx64, checksum_content_end(sum, size));
	checksum_content_free(sum);
}

static struct inode host_inode(const struct stat *st)
{
	struct inode i = {
		.ino = st->st_ino,
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.nlink = (uint32_t)st->st_nlink,
		.size = (uint64_t)st->st_size,
		.mtime = st->st_mtim,
	};

	i.uid = i.uid == geteuid() ? 0 : i.uid;
	i.gid = i.gid == getegid() ? 0 : i.gid;
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode))
		i.rdev = (uint64_t)major(st->st_rdev) << 32 | minor(st->st_rdev);
	return i;
}

static void walk_host(int dirfd, struct lines *lines, const char *path)
{
	char content[LINE / 2] = "-";
	struct names names = {0};
	char more[MORE] = "", whole[LINE / 2];
	struct dirent *entry;
	struct inode i;
	struct stat st;
	DIR *dir;

	assert_int_equal(fstatat(dirfd, *path ? path : ".", &st, AT_SYMLINK_NOFOLLOW), 0);
	i = host_inode(&st);
	if (S_ISREG(st.st_mode))
		hash_host_file(dirfd, path, i.size, content);
	if (S_ISLNK(st.st_mode))
		content[readlinkat(dirfd, path, content, sizeof(content) - 1)] = '\0';
	if (lines->what & DUMP_KEPT) {
		snprintf(whole, sizeof(whole), "/proc/self/fd/%d/%s", dirfd, path);
		describe_kept(&(struct attributes){.path = whole}, &i, more);
	}
	put_line(lines, path, &i, content, more);
	if (!S_ISDIR(st.st_mode))
		return;
	dir = fdopendir(openat(dirfd, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			add_name(&names, entry->d_name, strlen(entry->d_name));
	}
	closedir(dir);
	sort_names(&names);
	for (size_t n = 0; n < names.n; n++) {
		char below[LINE / 4];

		snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", names.list[n]);
		walk_host(dirfd, lines, below);
		free(names.list[n]);
	}
	free(names.list);
}

char *dump_host(const char *path)
{
	return dump_host_as(path, DUMP_PLAIN);
}

char *dump_host_as(const char *path, unsigned int what)
{
	struct lines lines = {.what = what};
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	walk_host(fd, &lines, "");
	close(fd);
	return join(&lines);
}

void dump_expect(const char *got, const char *want, const char *when)
{
	while (*got && *want) {
		size_t got_len = strcspn(got, "\n");
		size_t want_len = strcspn(want, "\n");

		if (got_len != want_len || memcmp(got, want, got_len) != 0)
			fail_msg("%s: the trees differ:\n  got:    %.*s\n  wanted: %.*s", when, (int)got_len, got,
			         (int)want_len, want);
		got += got_len + 1;
		want += want_len + 1;
	}
	if (*got || *want)
		fail_msg("%s: the trees differ: %s %.*s", when,
		         *got ? "too much:" : "missing:", (int)strcspn(*got ? got : want, "\n"), *got ? got : want);
}

void dump_expect_world(struct world *w, unsigned int what, const char *want, const char *when)
{
	char *got = dump_world(w, what);

	dump_expect(got, want, when);
	free(got);
}

char *dump_session(struct world *w, unsigned int what)
{
	const struct manifest *m = &w->store->session.manifest;
	char *tree = dump_world(w, what), *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	fputs(tree, out);
	for (size_t i = 0; i < m->n_snapshots; i++)
		fprintf(out, "snapshot %s\n", m->snapshots[i].name);
	fclose(out);
	free(tree);
	return text;
}
