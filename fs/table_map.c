/*
 * table_map: owns the map of a table.
 * Invariant: no row is used before every row was looked at.
 * Called by layer_table.
 */
#include "table_map.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checksum.h"
#include "cleanup.h"
#include "io.h"
#include "xattr_set.h"

enum { NSEC_PER_SEC = 1000000000 };

/* Bytes behind the row's place in the last section; UINT32_MAX as a length means that nothing is told. */
static uint64_t told(struct le32 len)
{
	return from_le32(len) == FORMAT_TABLE_UNTOLD ? 0 : from_le32(len);
}

static uint64_t part_bytes(const struct disk_table_inode *d)
{
	if (!table_map_in_part(d))
		return 0;
	return sizeof(struct disk_table_part) +
	       2 * sizeof(struct le64) * ((uint64_t)from_le32(d->n_here) + from_le32(d->n_fresh));
}

static bool is_time(struct disk_time t)
{
	return from_le32(t.nsec) < NSEC_PER_SEC;
}

static bool lies_within(uint64_t from, uint64_t len, uint64_t all)
{
	return from <= all && len <= all - from;
}

/* Ranges of a file: they grow, and leave room between them. */
static bool ranges_are_sound(const unsigned char *at, uint32_t n)
{
	uint64_t end = 0;

	for (uint32_t i = 0; i < n; i++, at += 2 * sizeof(struct le64)) {
		struct le64 pair[2];

		memcpy(pair, at, sizeof(pair));
		if ((i > 0 && from_le64(pair[0]) <= end) || from_le64(pair[1]) <= from_le64(pair[0]) ||
		    from_le64(pair[1]) > INT64_MAX)
			return false;
		end = from_le64(pair[1]);
	}
	return true;
}

static bool part_is_sound(const struct disk_table_inode *d, const unsigned char *at)
{
	struct disk_table_part part;

	if (!table_map_in_part(d))
		return true;
	memcpy(&part, at, sizeof(part));
	at += sizeof(part);
	return from_le64(part.below) <= INT64_MAX && ranges_are_sound(at, from_le32(d->n_here)) &&
	       ranges_are_sound(at + 2 * sizeof(struct le64) * from_le32(d->n_here), from_le32(d->n_fresh));
}

static bool bytes_are_sound(const struct table_map *m, const struct disk_table_inode *d)
{
	const unsigned char *xattrs = m->bytes + from_le64(d->bytes) + told(d->target_len);

	return xattr_set_check((struct xattr_set){xattrs, told(d->xattrs_len)}) == 0 &&
	       part_is_sound(d, xattrs + told(d->xattrs_len));
}

/* As records are held to. The bytes that it points to are added to *pointed_to. */
static bool inode_is_sound(const struct table_map *m, const struct disk_table_inode *d, uint64_t *pointed_to)
{
	uint64_t len = told(d->target_len) + told(d->xattrs_len) + part_bytes(d);

	if (from_le64(d->size) > INT64_MAX || from_le64(d->below) > INT64_MAX || !is_time(d->atime) ||
	    !is_time(d->mtime) || !is_time(d->ctime))
		return false;
	if (told(d->target_len) > FORMAT_TARGET_MAX || told(d->xattrs_len) > XATTR_SET_MAX)
		return false;
	if (!lies_within(from_le64(d->bytes), len, m->bytes_len) || !bytes_are_sound(m, d))
		return false;
	*pointed_to += len;
	return true;
}

static bool entry_is_sound(const struct table_map *m, const struct disk_table_entry *e)
{
	uint32_t len = from_le32(e->name_len);
	const char *name;

	if (len == 0 || len > FORMAT_NAME_MAX || !lies_within(from_le64(e->name), len, m->bytes_len))
		return false;
	name = (const char *)m->bytes + from_le64(e->name);
	return !memchr(name, '/', len) && !memchr(name, '\0', len) && from_le64(e->ino) < FORMAT_NUMBERS_END &&
	       from_le64(e->cookie) <= INT64_MAX;
}

static bool dir_is_sound(const struct table_map *m, uint64_t first, uint64_t count, uint64_t *pointed_to)
{
	uint64_t cookie = 0;

	if (!lies_within(first, count, m->n_entries))
		return false;
	for (uint64_t i = first; i < first + count; i++) {
		const struct disk_table_entry *e = &m->entries[i];

		if (!entry_is_sound(m, e) || from_le64(e->cookie) <= cookie)
			return false;
		cookie = from_le64(e->cookie);
		*pointed_to += from_le32(e->name_len);
	}
	return true;
}

static int check_rows(struct table_map *m)
{
	uint64_t before = 0, first = 0, pointed_to = 0;

	for (uint64_t i = 0; i < m->n_inodes; i++) {
		uint64_t ino = from_le64(m->inodes[i].ino);

		if (ino <= before || ino >= FORMAT_NUMBERS_END || !inode_is_sound(m, &m->inodes[i], &pointed_to))
			return -EUCLEAN;
		before = ino;
	}
	before = 0;
	for (uint64_t i = 0; i < m->n_dirs; i++) {
		uint64_t ino = from_le64(m->dirs[i].ino);
		uint64_t count = from_le64(m->dirs[i].count);

		if (ino <= before || ino >= FORMAT_NUMBERS_END || !dir_is_sound(m, first, count, &pointed_to))
			return -EUCLEAN;
		before = ino;
		m->first[i] = first;
		first += count;
	}
	/* As many bytes as there are: what comes into memory is not much more than the file. */
	return first == m->n_entries && pointed_to == m->bytes_len ? 0 : -EUCLEAN;
}

/* Whether a table of these sections is so long. */
static bool is_long(const struct disk_table_header *h, uint64_t len)
{
	const struct {
		uint64_t n;
		size_t size;
	} sections[] = {
		{from_le64(h->n_inodes), sizeof(struct disk_table_inode)},
		{from_le64(h->n_dirs), sizeof(struct disk_table_dir)},
		{from_le64(h->n_entries), sizeof(struct disk_table_entry)},
		{from_le64(h->bytes_len), 1},
	};
	uint64_t left = len < sizeof(*h) ? 0 : len - sizeof(*h);

	for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
		if (sections[i].n > left / sections[i].size)
			return false;
		left -= sections[i].n * sections[i].size;
	}
	return left == 0;
}

static int find_sections(struct table_map *m, const struct disk_table_header *h)
{
	const unsigned char *body = m->map + sizeof(*h);

	m->n_inodes = from_le64(h->n_inodes);
	m->n_dirs = from_le64(h->n_dirs);
	m->n_entries = from_le64(h->n_entries);
	m->bytes_len = from_le64(h->bytes_len);
	m->inodes = (const struct disk_table_inode *)body;
	m->dirs = (const struct disk_table_dir *)(m->inodes + m->n_inodes);
	m->entries = (const struct disk_table_entry *)(m->dirs + m->n_dirs);
	m->bytes = (const unsigned char *)(m->entries + m->n_entries);
	return checksum64(body, m->map_len - sizeof(*h), from_le64(h->journal)) == from_le64(h->body) ? 0 : -EUCLEAN;
}

/* They are added to those of other layers. */
static bool sums_are_sound(const struct disk_table_header *h)
{
	int64_t made = (int64_t)from_le64(h->made), most = (int64_t)FORMAT_NUMBERS_END;

	return made > -most && made < most && from_le64(h->ino_end) <= FORMAT_NUMBERS_END &&
	       from_le64(h->tombstones) < FORMAT_NUMBERS_END && from_le64(h->owed) <= INT64_MAX &&
	       from_le64(h->content_bytes) <= INT64_MAX && from_le64(h->blocks) <= INT64_MAX;
}

/* Whether it is a table that this program can read, of this layer, this journal, and on these layers. */
static int check_header(const struct disk_table_header *h, const struct layer *l, int dirfd,
                        const struct layer_table_key *key)
{
	uint64_t fingerprint;
	int r;

	if (memcmp(h->magic, FORMAT_TABLE_MAGIC, sizeof(h->magic)) != 0 ||
	    checksum64(h, offsetof(struct disk_table_header, checksum), 0) != from_le64(h->checksum) ||
	    from_le32(h->version) != FORMAT_TABLE_VERSION || from_le32(h->layer) != l->id ||
	    from_le64(h->first_ino) != l->first_ino || from_le64(h->journal_len) != key->sealed ||
	    from_le64(h->under) != key->under || !sums_are_sound(h))
		return -EUCLEAN;
	r = journal_fingerprint(dirfd, key->sealed, &fingerprint);
	if (r < 0)
		return r;
	return fingerprint == from_le64(h->journal) ? 0 : -EUCLEAN;
}

static int map_table(const struct layer *l, int dirfd, const struct layer_table_key *key, struct table_map *m)
{
	cleanup_fd int fd = io_open_regular(dirfd, "table", O_RDONLY);
	struct disk_table_header header;
	struct stat st;
	void *map;
	int r;

	if (fd < 0)
		return fd;
	r = io_read_all(fd, &header, sizeof(header), 0);
	if (r == 0)
		r = check_header(&header, l, dirfd, key);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r == 0 && !is_long(&header, (uint64_t)st.st_size))
		r = -EUCLEAN;
	if (r < 0)
		return r;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	m->map = map;
	m->map_len = (size_t)st.st_size;
	return find_sections(m, &header);
}

int table_map_open(struct table_map *m, const struct layer *l, int dirfd, const struct layer_table_key *key)
{
	int r;

	*m = (struct table_map){0};
	r = map_table(l, dirfd, key, m);
	if (r == 0) {
		m->first = calloc(m->n_dirs + 1, sizeof(*m->first));
		r = m->first ? check_rows(m) : -ENOMEM;
	}
	if (r < 0) {
		table_map_fini(m);
		return r;
	}
	/* The check has read all of it; pages of a file come back when they are asked for. */
	madvise((void *)(uintptr_t)m->map, m->map_len, MADV_DONTNEED);
	return 0;
}

void table_map_fini(struct table_map *m)
{
	if (m->map)
		munmap((void *)(uintptr_t)m->map, m->map_len);
	free(m->first);
	*m = (struct table_map){0};
}
