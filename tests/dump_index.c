/*
 * dump_index: an imported base's index as text. Owns the index that it maps.
 * Invariant: the lines, sorted by path, depend on the index alone, and what an index says is in them.
 * Called by tests as `dump_index BASE`. One line for each name:
 *
 *     path type mode uid gid nlink rdev size blocks mtime ctime stamp checksum first target [name=value ...]
 *
 * Fields are parted by a space; bytes that are no printable ASCII, spaces and backslashes appear as \xHH; an
 * empty field is "-". The root's path is ".". first is the path under which the file was made, equal for all
 * names of one file. At the end are the extended attributes, values in hexadecimal.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "index.h"

enum { XATTR_NAMES_MAX = 65536 };

struct line {
	char *path; /* as sorted */
	size_t path_len;
	uint64_t ino;
};

static void put_log(void *arg, enum log_level level, const char *line)
{
	fprintf(stderr, "dump_index: %s\n", line);
}

static void put_bytes(const char *bytes, size_t len)
{
	if (len == 0)
		putchar('-');
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c > 0x20 && c < 0x7f && c != '\\')
			putchar(c);
		else
			printf("\\x%02x", c);
	}
}

static char type_letter(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 'f';
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	case S_IFSOCK:
		return 's';
	default:
		return '?';
	}
}

static void put_time(struct timespec t)
{
	printf(" %lld.%09ld", (long long)t.tv_sec, t.tv_nsec);
}

static int put_xattrs(const struct index *ix, uint64_t ino)
{
	static char names[XATTR_NAMES_MAX];
	struct xattr_set set;
	ssize_t len;
	int r = index_xattrs(ix, ino, &set);

	if (r < 0)
		return r;
	len = xattr_set_list(set, names, sizeof(names));
	if (len < 0)
		return (int)len;
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(names + at) + 1) {
		const void *value;
		ssize_t value_len = xattr_set_get(set, names + at, &value);

		if (value_len < 0)
			return (int)value_len;
		putchar(' ');
		put_bytes(names + at, strlen(names + at));
		putchar('=');
		for (ssize_t i = 0; i < value_len; i++)
			printf("%02x", ((const unsigned char *)value)[i]);
	}
	putchar('\n');
	return 0;
}

static int put_line(const struct index *ix, const struct line *line)
{
	struct index_content content = {0};
	cleanup_free char *first = NULL;
	const char *target = "";
	size_t target_len = 0;
	struct inode i;
	int r = index_inode(ix, line->ino, &i);

	if (r == 0)
		r = index_path(ix, line->ino, &first);
	if (r == 0 && S_ISREG(i.mode))
		r = index_content(ix, line->ino, &content);
	if (r == 0 && S_ISLNK(i.mode))
		r = index_target(ix, line->ino, &target, &target_len);
	if (r < 0)
		return r;
	put_bytes(line->path, line->path_len);
	printf(" %c %04o %u %u %u %" PRIu64 ":%" PRIu64 " %" PRIu64 " %" PRIu64, type_letter(i.mode), i.mode & 07777,
	       i.uid, i.gid, i.nlink, i.rdev >> 32, i.rdev & UINT32_MAX, i.size, i.blocks);
	put_time(i.mtime);
	put_time(i.ctime);
	printf(" %" PRIu64 " %016" PRIx64, content.stamp, content.checksum);
	putchar(' ');
	put_bytes(first, strlen(first));
	putchar(' ');
	put_bytes(target, target_len);
	return put_xattrs(ix, line->ino);
}

static int by_path(const void *a, const void *b)
{
	const struct line *x = a;
	const struct line *y = b;

	return strcmp(x->path, y->path);
}

static int fill_line(const struct index *ix, uint64_t nr, struct line *line)
{
	cleanup_free char *parent = NULL;
	struct index_entry entry;
	int r = index_entry(ix, nr, &entry);

	if (r == 0)
		r = index_path(ix, entry.parent, &parent);
	if (r < 0)
		return r;
	if (entry.parent == 1)
		parent[0] = '\0';
	line->ino = entry.ino;
	line->path_len = strlen(parent) + (*parent ? 1 : 0) + entry.name_len;
	line->path = malloc(line->path_len + 1);
	if (!line->path)
		return -ENOMEM;
	snprintf(line->path, line->path_len + 1, "%s%s%.*s", parent, *parent ? "/" : "", (int)entry.name_len,
	         entry.name);
	return 0;
}

static int dump(const struct index *ix)
{
	struct line *lines = calloc(index_n_entries(ix) + 1, sizeof(*lines));
	size_t n = 0;
	int r = lines ? 0 : -ENOMEM;

	for (uint64_t nr = 0; r == 0 && nr < index_n_entries(ix); nr++) {
		r = fill_line(ix, nr, &lines[n]);
		n += r == 0;
	}
	if (r == 0) {
		qsort(lines, n, sizeof(*lines), by_path);
		r = put_line(ix, &(struct line){.path = (char[]){"."}, .path_len = 1, .ino = 1});
	}
	for (size_t i = 0; i < n; i++) {
		if (r == 0)
			r = put_line(ix, &lines[i]);
		free(lines[i].path);
	}
	free(lines);
	return r;
}

int main(int argc, char **argv)
{
	const struct log log = {put_log, NULL};
	struct index *ix = NULL;
	cleanup_fd int dir = -1;
	int r;

	if (argc != 2) {
		fprintf(stderr, "usage: dump_index BASE\n");
		return 2;
	}
	dir = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? -errno : index_open(dir, ".umlfs/index", argv[1], &log, &ix);
	if (r == 0)
		r = dump(ix);
	index_free(ix);
	if (r < 0)
		fprintf(stderr, "dump_index: %s: %s\n", argv[1], strerror(-r));
	return r < 0;
}
