/*
 * index: owns the mapping of one index file.
 * Invariant: no byte of the map is read but through row(), entry_row() and slice(), which check. A name of zeros
 * is damage: they are what the last page of a mapped file that is cut short reads as; what lies behind is a SIGBUS.
 * Called by base; by import and verify for whole passes.
 */
#include "index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cleanup.h"
#include "format.h"
#include "io.h"

enum { NO_ENTRY = UINT32_MAX, NSEC_PER_SEC = 1000000000 };

struct index {
	const unsigned char *map;
	size_t map_len;
	const struct disk_inode *inodes;
	const struct disk_entry *entries;
	uint64_t n_inodes, n_entries;
	uint64_t offset[INDEX_SECTIONS]; /* from the start of the map */
	uint64_t len[INDEX_SECTIONS];
	struct checksum_id id;
	uint32_t flags;
	dev_t dev; /* of the file */
	ino_t ino;
};

/* The one door to inode rows. */
static const struct disk_inode *row(const struct index *ix, uint64_t ino)
{
	return ino - 1 < ix->n_inodes ? &ix->inodes[ino - 1] : NULL; /* 0 wraps: also NULL */
}

/* The one door to entry rows. */
static const struct disk_entry *entry_row(const struct index *ix, uint64_t nr)
{
	return nr < ix->n_entries ? &ix->entries[nr] : NULL;
}

/* The one door to names, targets and xattrs. */
static const void *slice(const struct index *ix, unsigned int section, uint64_t offset, uint64_t len)
{
	if (offset > ix->len[section] || len > ix->len[section] - offset)
		return NULL;
	return ix->map + ix->offset[section] + offset;
}

/* XXH3-64 needs the bytes in one piece; sections are mapped for a moment, so that nothing stays resident. */
static int section_checksum(int fd, uint64_t offset, uint64_t len, uint64_t seed, uint64_t *out)
{
	uint64_t start = offset & ~(uint64_t)4095;
	size_t map_len = (size_t)(offset - start + len);
	unsigned char *map;

	if (len == 0) {
		*out = checksum64("", 0, seed);
		return 0;
	}
	map = mmap(NULL, map_len, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, (off_t)start);
	if (map == MAP_FAILED)
		return -errno;
	*out = checksum64(map + (offset - start), (size_t)len, seed);
	munmap(map, map_len);
	return 0;
}

static int read_header(int fd, const char *label, const struct log *log, struct disk_index_header *header)
{
	int r = io_read_all(fd, header, sizeof(*header), 0);

	if (r == -EUCLEAN || (r == 0 && memcmp(header->magic, FORMAT_INDEX_MAGIC, sizeof(header->magic)) != 0))
		return log_error(log, -EUCLEAN, "%s: damaged: this is no index; import the base again", label);
	if (r < 0)
		return log_errno(log, r, "%s", label);
	if (checksum64(header, offsetof(struct disk_index_header, checksum), 0) != from_le64(header->checksum) ||
	    from_le32(header->version) < FORMAT_INDEX_VERSION)
		return log_error(log, -EUCLEAN,
		                 "%s: damaged: the checksum of its header differs; import the base again", label);
	if (from_le32(header->version) > FORMAT_INDEX_VERSION)
		return log_error(log, -EPROTONOSUPPORT, "%s: made by a newer umlfs (version %u): update umlfs", label,
		                 from_le32(header->version));
	return 0;
}

static int check_sections(int fd, const char *label, const struct log *log, const struct disk_index_header *header,
                          struct index *ix)
{
	uint64_t offset = sizeof(*header);

	for (unsigned int s = 0; s < INDEX_SECTIONS; s++) {
		uint64_t len = from_le64(header->sections[s].len);
		uint64_t checksum = 0;
		int r;

		if (len > ix->map_len - offset)
			return log_error(log, -EUCLEAN, "%s: damaged: it is cut short; import the base again", label);
		r = section_checksum(fd, offset, len, s, &checksum);
		if (r < 0)
			return log_errno(log, r, "%s", label);
		if (checksum != from_le64(header->sections[s].checksum))
			return log_error(log, -EUCLEAN,
			                 "%s: damaged between bytes %llu and %llu; import the base again", label,
			                 (unsigned long long)offset, (unsigned long long)offset + len);
		ix->offset[s] = offset;
		ix->len[s] = len;
		offset += len;
	}
	if (offset != ix->map_len)
		return log_error(log, -EUCLEAN, "%s: damaged: bytes behind its end; import the base again", label);
	if (ix->len[INDEX_SECTION_INODES] < sizeof(struct disk_inode))
		return log_error(log, -EUCLEAN, "%s: damaged: it has no root; import the base again", label);
	return 0;
}

int index_open(int dirfd, const char *name, const char *label, const struct log *log, struct index **out)
{
	cleanup_fd int fd = io_open_regular(dirfd, name, O_RDONLY);
	struct disk_index_header header;
	struct index *ix;
	struct stat st;
	void *map;
	int r;

	if (fd == -ELOOP || fd == -EUCLEAN)
		return log_error(log, -EUCLEAN,
		                 "%s: damaged: this is no regular file, or behind a symlink; import the base again",
		                 label);
	if (fd < 0)
		return fd == -ENOENT ? fd : log_errno(log, fd, "%s", label);
	if (fstat(fd, &st) < 0)
		return log_errno(log, -errno, "%s", label);
	r = read_header(fd, label, log, &header);
	if (r < 0)
		return r;
	ix = calloc(1, sizeof(*ix));
	if (!ix)
		return -ENOMEM;
	ix->map_len = (size_t)st.st_size;
	ix->dev = st.st_dev;
	ix->ino = st.st_ino;
	r = check_sections(fd, label, log, &header, ix);
	if (r < 0) {
		free(ix);
		return r;
	}
	map = mmap(NULL, ix->map_len, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) {
		r = -errno;
		free(ix);
		return log_errno(log, r, "%s", label);
	}
	ix->map = map;
	ix->inodes = (const struct disk_inode *)(ix->map + ix->offset[INDEX_SECTION_INODES]);
	ix->entries = (const struct disk_entry *)(ix->map + ix->offset[INDEX_SECTION_ENTRIES]);
	ix->n_inodes = ix->len[INDEX_SECTION_INODES] / sizeof(struct disk_inode);
	ix->n_entries = ix->len[INDEX_SECTION_ENTRIES] / sizeof(struct disk_entry);
	ix->id = checksum128(&header, sizeof(header));
	ix->flags = from_le32(header.flags);
	*out = ix;
	return 0;
}

void index_free(struct index *ix)
{
	if (!ix)
		return;
	munmap((void *)(uintptr_t)ix->map, ix->map_len);
	free(ix);
}

bool index_is_file(const struct index *ix, int dirfd, const char *name)
{
	struct stat st;

	return fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == ix->dev && st.st_ino == ix->ino;
}

struct checksum_id index_id(const struct index *ix)
{
	return ix->id;
}

bool index_scanned(const struct index *ix)
{
	return ix->flags & INDEX_FLAG_SCANNED;
}

uint64_t index_n_inodes(const struct index *ix)
{
	return ix->n_inodes;
}

uint64_t index_n_entries(const struct index *ix)
{
	return ix->n_entries;
}

/* The directory that names this inode first; the root is its own. */
static int first_parent(const struct index *ix, const struct disk_inode *in, uint64_t *out)
{
	uint32_t nr = from_le32(in->entry);
	const struct disk_entry *entry;

	if (nr == NO_ENTRY) {
		*out = FORMAT_ROOT_INO;
		return 0;
	}
	entry = entry_row(ix, nr);
	if (!entry)
		return -EUCLEAN;
	*out = from_le32(entry->parent);
	return 0;
}

/* Sizes are those of off_t. */
static bool numbers_are_sound(const struct disk_inode *in)
{
	return from_le64(in->size) <= INT64_MAX && from_le32(in->mtime.nsec) < NSEC_PER_SEC &&
	       from_le32(in->ctime.nsec) < NSEC_PER_SEC;
}

int index_inode(const struct index *ix, uint64_t ino, struct inode *out)
{
	const struct disk_inode *in = row(ix, ino);
	uint64_t parent = 0;

	if (!in)
		return -ESTALE;
	if (!numbers_are_sound(in))
		return -EUCLEAN;
	if (S_ISDIR(from_le32(in->mode))) {
		int r = first_parent(ix, in, &parent);

		if (r < 0)
			return r;
	}
	*out = (struct inode){
		.ino = ino,
		.mode = from_le32(in->mode),
		.uid = from_le32(in->uid),
		.gid = from_le32(in->gid),
		.nlink = from_le32(in->nlink),
		.rdev = from_le64(in->rdev),
		.size = from_le64(in->size),
		.blocks = from_le64(in->blocks),
		.atime = from_disk_time(in->mtime),
		.mtime = from_disk_time(in->mtime),
		.ctime = from_disk_time(in->ctime),
		.parent = parent,
		.content_layer = CONTENT_BASE,
	};
	return 0;
}

/* An entry whose name may have bytes that no name has: for comparing it with one that has none. */
static int entry_at(const struct index *ix, uint64_t nr, struct index_entry *out)
{
	const struct disk_entry *entry = entry_row(ix, nr);
	const char *name;
	size_t len;

	if (!entry)
		return -ENOENT;
	len = from_le16(entry->name_len);
	name = slice(ix, INDEX_SECTION_NAMES, from_le32(entry->name), len);
	if (!name || len == 0 || len > FORMAT_NAME_MAX || !name[0] || !name[len - 1])
		return -EUCLEAN;
	out->parent = from_le32(entry->parent);
	out->ino = from_le32(entry->ino);
	out->name = name;
	out->name_len = len;
	return 0;
}

int index_entry(const struct index *ix, uint64_t nr, struct index_entry *out)
{
	struct index_entry entry;
	int r = entry_at(ix, nr, &entry);

	if (r < 0)
		return r;
	if (memchr(entry.name, '/', entry.name_len) || memchr(entry.name, '\0', entry.name_len))
		return -EUCLEAN;
	*out = entry;
	return 0;
}

int index_dir(const struct index *ix, uint64_t ino, uint64_t *first_out, uint64_t *count_out)
{
	const struct disk_inode *in = row(ix, ino);
	uint64_t first, count;

	if (!in)
		return -ESTALE;
	if (!S_ISDIR(from_le32(in->mode)))
		return -ENOTDIR;
	first = from_le32(in->first);
	count = from_le32(in->count);
	if (first > ix->n_entries || count > ix->n_entries - first)
		return -EUCLEAN;
	*first_out = first;
	*count_out = count;
	return 0;
}

int index_first_entry(const struct index *ix, uint64_t ino, uint64_t *nr_out)
{
	const struct disk_inode *in = row(ix, ino);

	if (!in)
		return -ESTALE;
	if (from_le32(in->entry) == NO_ENTRY)
		return -ENOENT;
	*nr_out = from_le32(in->entry);
	return 0;
}

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int order = memcmp(a, b, a_len < b_len ? a_len : b_len);

	return order ? order : (a_len > b_len) - (a_len < b_len);
}

int index_lookup(const struct index *ix, uint64_t parent, const char *name, size_t len, uint64_t *ino_out)
{
	uint64_t low, count;
	int r = index_dir(ix, parent, &low, &count);

	if (r < 0)
		return r == -EUCLEAN ? r : -ENOENT;
	while (count > 0) {
		struct index_entry entry;
		uint64_t middle = low + count / 2;
		int order;

		r = entry_at(ix, middle, &entry);
		if (r < 0)
			return -EUCLEAN;
		order = compare_names(name, len, entry.name, entry.name_len);
		if (order == 0) {
			*ino_out = entry.ino;
			return 0;
		}
		if (order > 0) {
			count -= middle + 1 - low;
			low = middle + 1;
		} else {
			count = middle - low;
		}
	}
	return -ENOENT;
}

int index_target(const struct index *ix, uint64_t ino, const char **target_out, size_t *len_out)
{
	const struct disk_inode *in = row(ix, ino);
	const char *target;
	size_t len;

	if (!in)
		return -ESTALE;
	if (!S_ISLNK(from_le32(in->mode)))
		return -EINVAL;
	len = from_le32(in->count);
	target = slice(ix, INDEX_SECTION_TARGETS, from_le32(in->first), len);
	if (!target || len > FORMAT_TARGET_MAX)
		return -EUCLEAN;
	*target_out = target;
	*len_out = len;
	return 0;
}

int index_xattrs(const struct index *ix, uint64_t ino, struct xattr_set *out)
{
	const struct disk_inode *in = row(ix, ino);
	struct xattr_set set;

	if (!in)
		return -ESTALE;
	set.len = from_le32(in->xattrs_len);
	set.bytes = slice(ix, INDEX_SECTION_XATTRS, from_le32(in->xattrs), set.len);
	if (!set.bytes || xattr_set_check(set) < 0)
		return -EUCLEAN;
	*out = set;
	return 0;
}

int index_content(const struct index *ix, uint64_t ino, struct index_content *out)
{
	const struct disk_inode *in = row(ix, ino);

	if (!in)
		return -ESTALE;
	out->size = from_le64(in->size);
	out->stamp = from_le64(in->stamp);
	out->checksum = from_le64(in->content);
	return 0;
}

/* Length of the path of ino in bytes, with a '/' or the end behind each name. */
static int path_length(const struct index *ix, uint64_t ino, size_t *out)
{
	size_t len = 0;

	for (uint64_t depth = 0; ino != FORMAT_ROOT_INO; depth++) {
		const struct disk_inode *in = row(ix, ino);
		struct index_entry entry;

		if (!in || depth > ix->n_inodes || index_entry(ix, from_le32(in->entry), &entry) < 0)
			return -EUCLEAN;
		len += entry.name_len + 1;
		ino = entry.parent;
	}
	*out = len;
	return 0;
}

int index_path(const struct index *ix, uint64_t ino, char **path_out)
{
	size_t len;
	char *path;
	int r;

	if (!row(ix, ino))
		return -ESTALE;
	r = path_length(ix, ino, &len);
	if (r < 0)
		return r;
	if (len == 0)
		return (*path_out = strdup(".")) ? 0 : -ENOMEM;
	path = malloc(len);
	if (!path)
		return -ENOMEM;
	*path_out = path;
	path[--len] = '\0';
	while (ino != FORMAT_ROOT_INO) {
		struct index_entry entry;

		index_entry(ix, from_le32(row(ix, ino)->entry), &entry);
		len -= entry.name_len;
		memcpy(path + len, entry.name, entry.name_len);
		if (len > 0)
			path[--len] = '/';
		ino = entry.parent;
	}
	return 0;
}
