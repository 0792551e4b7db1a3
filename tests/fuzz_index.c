/*
 * fuzz_index: any bytes as a base's index.
 * Invariant: an index that opens is read in full, by every accessor, and served.
 * Called by a fuzzer or by its replay.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <unistd.h>

#include "check_index.h"
#include "format.h"
#include "fuzz_world.h"
#include "index.h"
#include "index_build.h"
#include "umlfs/check.h"
#include "unit.h"

enum { DIFFERENCES = 5 };

static void set_checksum(unsigned char *bytes, struct disk_index_header *header)
{
	memcpy(header->magic, FORMAT_INDEX_MAGIC, sizeof(header->magic));
	header->version = le32(FORMAT_INDEX_VERSION);
	header->checksum = le64(checksum64(header, offsetof(struct disk_index_header, checksum), 0));
	memcpy(bytes, header, sizeof(*header));
}

/* The sections are as long as the header says, as far as there are bytes; the last one has the rest. */
size_t fuzz_mend(unsigned char *bytes, size_t len)
{
	struct disk_index_header header;
	uint64_t at = sizeof(header);

	if (len < sizeof(header))
		return len;
	memcpy(&header, bytes, sizeof(header));
	for (unsigned int s = 0; s < INDEX_SECTIONS; s++) {
		uint64_t want = from_le64(header.sections[s].len);
		uint64_t has = s == INDEX_SECTIONS - 1 || want > len - at ? len - at : want;

		header.sections[s].len = le64(has);
		header.sections[s].checksum = le64(checksum64(bytes + at, (size_t)has, s));
		at += has;
	}
	set_checksum(bytes, &header);
	return len;
}

/* The longest name and the longest target that there can be. */
static void put_longest(struct world *w, const char *path)
{
	int fd = openat(w->place.fd, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	char name[FORMAT_NAME_MAX], target[FORMAT_TARGET_MAX];
	struct build_node *node;
	struct build *b;

	memset(name, 'n', sizeof(name));
	memset(target, 't', sizeof(target));
	assert_int_equal(build_new(0, &b), 0);
	assert_int_equal(build_add(b, build_root(b), name, sizeof(name), S_IFLNK | 0777, &node), 0);
	assert_int_equal(build_set_target(node, target, sizeof(target)), 0);
	assert_int_equal(build_add(b, build_root(b), "z", 1, S_IFLNK | 0777, &node), 0);
	assert_int_equal(build_set_target(node, target, 1), 0);
	assert_int_equal(build_write(b, fd), 0);
	build_free(b);
	close(fd);
}

size_t fuzz_seed(unsigned int nr, unsigned char bytes[FUZZ_INPUT_MAX])
{
	static const char longest[] = "longest";
	struct world *w = fuzz_begin();
	size_t len;

	if (nr != 1)
		return nr > 1 ? 0 : fuzz_take(w, "base/.umlfs/index", bytes);
	put_longest(w, longest);
	len = fuzz_take(w, longest, bytes);
	unlinkat(w->place.fd, longest, 0);
	return len;
}

static void read_inode(const struct index *ix, uint64_t ino)
{
	struct index_content content;
	struct xattr_set set;
	const char *target;
	struct inode inode;
	char *path = NULL;
	uint64_t nr, count;
	size_t len;
	char names[4096];

	index_inode(ix, ino, &inode);
	assert_int_equal(index_content(ix, ino, &content), 0);
	index_first_entry(ix, ino, &nr);
	if (index_dir(ix, ino, &nr, &count) == 0)
		assert_true(nr + count <= index_n_entries(ix));
	if (index_target(ix, ino, &target, &len) == 0)
		checksum64(target, len, 0);
	if (index_xattrs(ix, ino, &set) == 0)
		xattr_set_list(set, names, sizeof(names));
	index_path(ix, ino, &path);
	free(path);
}

static void read_all(const struct index *ix)
{
	for (uint64_t ino = 0; ino <= index_n_inodes(ix) + 1; ino++) {
		struct inode inode;

		if (ino == 0 || ino > index_n_inodes(ix))
			assert_int_equal(index_inode(ix, ino, &inode), -ESTALE);
		else
			read_inode(ix, ino);
	}
	for (uint64_t nr = 0; nr <= index_n_entries(ix); nr++) {
		struct index_entry entry;
		uint64_t ino;

		if (index_entry(ix, nr, &entry) == 0)
			index_lookup(ix, entry.parent, entry.name, entry.name_len, &ino);
	}
}

static void ignore(void *arg, const struct finding *finding)
{
}

/* What `umlfs check BASE` and the comparison of two bases make of it. */
static void compare(struct world *w, const struct index *ix, const char *whole)
{
	struct check_options options = {.path = w->base, .log = &w->place.log, .found = ignore};
	struct check_result result;
	struct index *other;

	assert_int_equal(check_run(&options, &result), 0);
	assert_int_equal(index_open(w->place.fd, whole, whole, &w->place.log, &other), 0);
	index_compare(ix, other, DIFFERENCES, &w->place.log);
	index_compare(other, ix, DIFFERENCES, &w->place.log);
	index_free(other);
}

void fuzz_one(const unsigned char *bytes, size_t len)
{
	static const char name[] = "base/.umlfs/index", whole[] = "whole";
	struct world *w = fuzz_begin();
	struct index *ix;
	unsigned char *kept;
	size_t kept_len;
	int r;

	kept = fuzz_get_index(w, &kept_len);
	fuzz_put_index(w, bytes, len);
	r = index_open(w->place.fd, name, name, &w->place.log, &ix);
	if (r == 0) {
		place_put(w->place.fd, whole, kept, kept_len);
		read_all(ix);
		compare(w, ix, whole);
		index_free(ix);
		unlinkat(w->place.fd, whole, 0);
		fuzz_session(w);
	} else {
		assert_true(r == -EUCLEAN || r == -EPROTONOSUPPORT);
		assert_int_equal(w->place.n_errors, 1);
	}
	fuzz_put_index(w, kept, kept_len);
	free(kept);
	fuzz_end(w);
}
