/*
 * layer_table: owns a mapped table and the memory that its rows come into.
 * Invariant: every row was looked at when the table was opened, so that what it points to is there, and the arena has room for
 * all of them. A row is in memory once its number there is not 0.
 * Called by layer.
 */
#include "layer_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checksum.h"
#include "cleanup.h"
#include "format.h"
#include "io.h"

enum { ALIGN = 8, BUCKETS_MIN = 16, NSEC_PER_SEC = 1000000000 };

struct layer_table {
	const unsigned char *map;
	size_t map_len;
	const struct disk_table_inode *inodes;
	const struct disk_table_dir *dirs;
	const struct disk_table_entry *entries;
	const unsigned char *bytes;
	uint64_t n_inodes, n_dirs, n_entries, bytes_len;
	uint64_t *first; /* of each directory's entries */
	unsigned char *arena;
	size_t arena_len, used;
	struct layer_inode *own_inodes; /* at the start of the arena, a place for each row */
	struct layer_dir *own_dirs;
};

static size_t aligned(size_t len)
{
	return (len + ALIGN - 1) / ALIGN * ALIGN;
}

/* Bytes behind the row's place in the last section; UINT32_MAX as a length means that nothing is told. */
static uint64_t told(struct le32 len)
{
	return from_le32(len) == FORMAT_TABLE_UNTOLD ? 0 : from_le32(len);
}

static bool in_part(const struct disk_table_inode *d)
{
	return from_le32(d->n_here) != FORMAT_TABLE_UNTOLD;
}

static uint64_t part_bytes(const struct disk_table_inode *d)
{
	if (!in_part(d))
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

/* The memory that the inode's bytes take is added to *memory. */
static bool inode_is_sound(const struct layer_table *t, const struct disk_table_inode *d, size_t *memory)
{
	uint64_t len = told(d->target_len) + told(d->xattrs_len) + part_bytes(d);

	if (from_le64(d->size) > INT64_MAX || !is_time(d->atime) || !is_time(d->mtime) || !is_time(d->ctime))
		return false;
	if (!lies_within(from_le64(d->bytes), len, t->bytes_len))
		return false;
	*memory += 2 * sizeof(struct layer_bytes) + sizeof(struct layer_part) + aligned(len) + 3 * (size_t)ALIGN;
	return true;
}

static size_t buckets_for(uint64_t count)
{
	size_t n = BUCKETS_MIN;

	while (n < count)
		n *= 2;
	return n;
}

static bool dir_is_sound(const struct layer_table *t, uint64_t first, uint64_t count, size_t *memory)
{
	uint64_t cookie = 0;

	if (!lies_within(first, count, t->n_entries))
		return false;
	for (uint64_t i = first; i < first + count; i++) {
		const struct disk_table_entry *e = &t->entries[i];
		uint32_t len = from_le32(e->name_len);

		if (len == 0 || len > FORMAT_NAME_MAX || !lies_within(from_le64(e->name), len, t->bytes_len) ||
		    from_le64(e->cookie) <= cookie)
			return false;
		cookie = from_le64(e->cookie);
		*memory += aligned(sizeof(struct layer_entry) + len);
	}
	*memory += count * sizeof(struct layer_slot) + buckets_for(count) * sizeof(struct map_node *);
	return true;
}

/* Looks at every row; what all of them take in memory goes to *memory. */
static int check_rows(struct layer_table *t, size_t *memory)
{
	uint64_t before = 0, first = 0;

	for (uint64_t i = 0; i < t->n_inodes; i++) {
		uint64_t ino = from_le64(t->inodes[i].ino);

		if (ino <= before || !inode_is_sound(t, &t->inodes[i], memory))
			return -EUCLEAN;
		before = ino;
	}
	before = 0;
	for (uint64_t i = 0; i < t->n_dirs; i++) {
		uint64_t ino = from_le64(t->dirs[i].ino);
		uint64_t count = from_le64(t->dirs[i].count);

		if (ino <= before || !dir_is_sound(t, first, count, memory))
			return -EUCLEAN;
		before = ino;
		t->first[i] = first;
		first += count;
	}
	return first == t->n_entries ? 0 : -EUCLEAN;
}

/* The arena is address space: a page of it costs memory when something comes into it. */
static int make_arena(struct layer_table *t)
{
	size_t fixed = t->n_inodes * sizeof(*t->own_inodes) + t->n_dirs * sizeof(*t->own_dirs);
	size_t memory = aligned(fixed);
	void *arena;
	int r;

	t->first = calloc(t->n_dirs + 1, sizeof(*t->first));
	if (!t->first)
		return -ENOMEM;
	r = check_rows(t, &memory);
	if (r < 0)
		return r;
	arena = mmap(NULL, memory + ALIGN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (arena == MAP_FAILED)
		return -errno;
	t->arena = arena;
	t->arena_len = memory + ALIGN;
	t->used = aligned(fixed);
	t->own_inodes = arena;
	t->own_dirs = (struct layer_dir *)(t->own_inodes + t->n_inodes);
	return 0;
}

/* Rows of this size that fit: their section's place, and what is left behind it. NULL: they do not. */
static const void *take_section(const unsigned char **at, size_t *left, uint64_t n, size_t size)
{
	const unsigned char *section = *at;

	if (n > *left / size)
		return NULL;
	*at += n * size;
	*left -= n * size;
	return section;
}

static int find_sections(struct layer_table *t, const struct disk_table_header *h)
{
	const unsigned char *at = t->map + sizeof(*h);
	size_t left = t->map_len - sizeof(*h);

	t->n_inodes = from_le64(h->n_inodes);
	t->n_dirs = from_le64(h->n_dirs);
	t->n_entries = from_le64(h->n_entries);
	t->bytes_len = from_le64(h->bytes_len);
	if (checksum64(at, left, from_le64(h->journal)) != from_le64(h->body))
		return -EUCLEAN;
	t->inodes = take_section(&at, &left, t->n_inodes, sizeof(*t->inodes));
	t->dirs = take_section(&at, &left, t->n_dirs, sizeof(*t->dirs));
	t->entries = take_section(&at, &left, t->n_entries, sizeof(*t->entries));
	t->bytes = at;
	return t->inodes && t->dirs && t->entries && left == t->bytes_len ? 0 : -EUCLEAN;
}

/* Whether it is a table that this program can read, of this layer and this journal. */
static int check_header(const struct disk_table_header *h, const struct layer *l, int dirfd, uint64_t sealed)
{
	uint64_t fingerprint;
	int r;

	if (memcmp(h->magic, FORMAT_TABLE_MAGIC, sizeof(h->magic)) != 0 ||
	    checksum64(h, offsetof(struct disk_table_header, checksum), 0) != from_le64(h->checksum) ||
	    from_le32(h->version) != FORMAT_TABLE_VERSION || from_le32(h->layer) != l->id ||
	    from_le64(h->first_ino) != l->first_ino || from_le64(h->journal_len) != sealed)
		return -EUCLEAN;
	r = journal_fingerprint(dirfd, sealed, &fingerprint);
	if (r < 0)
		return r;
	return fingerprint == from_le64(h->journal) ? 0 : -EUCLEAN;
}

static int map_table(const struct layer *l, int dirfd, uint64_t sealed, struct layer_table *t)
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
		r = check_header(&header, l, dirfd, sealed);
	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0)
		return r;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	t->map = map;
	t->map_len = (size_t)st.st_size;
	return find_sections(t, &header);
}

static void take_sums(struct layer *l, const struct disk_table_header *h)
{
	l->ino_end = from_le64(h->ino_end);
	l->n_tombstones = from_le64(h->tombstones);
	l->n_unsettled = from_le64(h->unsettled);
	l->owed = from_le64(h->owed);
	l->bytes = from_le64(h->content_bytes);
	l->blocks = from_le64(h->blocks);
	l->made = (int64_t)from_le64(h->made);
}

int layer_table_open(struct layer *l, int dirfd, uint64_t sealed)
{
	struct layer_table *t = calloc(1, sizeof(*t));
	int r = t ? map_table(l, dirfd, sealed, t) : -ENOMEM;

	if (r == 0)
		r = make_arena(t);
	if (r < 0) {
		layer_table_free(t);
		return r;
	}
	take_sums(l, (const struct disk_table_header *)t->map);
	madvise((void *)(uintptr_t)t->map, t->map_len,
	        MADV_DONTNEED); /* not one's own memory: what is asked for comes back */
	l->table = t;
	return 0;
}

void layer_table_free(struct layer_table *t)
{
	if (!t)
		return;
	if (t->map)
		munmap((void *)(uintptr_t)t->map, t->map_len);
	if (t->arena)
		munmap(t->arena, t->arena_len);
	free(t->first);
	free(t);
}

static void *get(struct layer_table *t, size_t len)
{
	void *at = t->arena + t->used;

	t->used += aligned(len);
	return at;
}

/*
 * The row of this number among n rows of one size that begin with theirs, or n. Numbers come in long runs: so where one would be
 * if all of them were one run is tried in turn with the middle.
 */
static uint64_t find_row(const void *rows, size_t size, uint64_t n, uint64_t ino)
{
	uint64_t low = 0, high = n;
	bool guess = true;

	while (low < high) {
		uint64_t first = from_le64(*(const struct le64 *)((const unsigned char *)rows + low * size));
		uint64_t at = low + (high - low) / 2;
		uint64_t found;

		if (ino < first)
			return n;
		if (guess && ino - first < high - low)
			at = low + (ino - first);
		guess = !guess;
		found = from_le64(*(const struct le64 *)((const unsigned char *)rows + at * size));
		if (found == ino)
			return at;
		if (found < ino)
			low = at + 1;
		else
			high = at;
	}
	return n;
}

static struct layer_bytes *load_bytes(struct layer_table *t, struct le32 len, const unsigned char **at)
{
	struct layer_bytes *bytes;

	if (from_le32(len) == FORMAT_TABLE_UNTOLD)
		return NULL;
	bytes = get(t, sizeof(*bytes) + from_le32(len));
	bytes->len = from_le32(len);
	memcpy(bytes->bytes, *at, bytes->len);
	*at += bytes->len;
	return bytes;
}

static void load_ranges(struct layer_table *t, struct ranges *r, uint32_t n, const unsigned char **at)
{
	r->list = get(t, n * sizeof(*r->list));
	r->n = r->room = n;
	for (uint32_t i = 0; i < n; i++) {
		struct le64 pair[2];

		memcpy(pair, *at, sizeof(pair));
		*at += sizeof(pair);
		r->list[i] = (struct range){from_le64(pair[0]), from_le64(pair[1])};
		r->bytes += r->list[i].to - r->list[i].from;
	}
}

static struct layer_part *load_part(struct layer_table *t, const struct disk_table_inode *d, const unsigned char *at)
{
	struct disk_table_part disk;
	struct layer_part *part;

	if (!in_part(d))
		return NULL;
	memcpy(&disk, at, sizeof(disk));
	at += sizeof(disk);
	part = get(t, sizeof(*part));
	part->below = from_le64(disk.below);
	part->cap = from_le64(disk.cap);
	load_ranges(t, &part->here, from_le32(d->n_here), &at);
	load_ranges(t, &part->fresh, from_le32(d->n_fresh), &at);
	return part;
}

struct layer_inode *layer_table_inode_at(struct layer_table *t, uint64_t row)
{
	const struct disk_table_inode *d;
	struct layer_inode *inode;
	const unsigned char *at;

	if (row >= t->n_inodes)
		return NULL;
	d = &t->inodes[row];
	inode = &t->own_inodes[row];
	if (inode->attr.ino)
		return inode;
	inode->attr = (struct inode){
		.ino = from_le64(d->ino),
		.mode = from_le32(d->mode),
		.uid = from_le32(d->uid),
		.gid = from_le32(d->gid),
		.nlink = from_le32(d->nlink),
		.rdev = from_le64(d->rdev),
		.size = from_le64(d->size),
		.blocks = from_le64(d->blocks),
		.floor = from_le64(d->floor),
		.atime = from_disk_time(d->atime),
		.mtime = from_disk_time(d->mtime),
		.ctime = from_disk_time(d->ctime),
		.parent = from_le64(d->parent),
		.below = from_le64(d->below),
		.content_layer = from_le32(d->content_layer),
		.dirty = from_le32(d->dirty),
	};
	at = t->bytes + from_le64(d->bytes);
	inode->target = load_bytes(t, d->target_len, &at);
	inode->xattrs = load_bytes(t, d->xattrs_len, &at);
	inode->part = load_part(t, d, at);
	return inode;
}

static void load_entry(struct layer_table *t, struct layer_dir *dir, const struct disk_table_entry *e)
{
	uint32_t len = from_le32(e->name_len);
	struct layer_entry *entry = get(t, sizeof(*entry) + len);

	entry->ino = from_le64(e->ino);
	entry->cookie = from_le64(e->cookie);
	entry->len = (uint8_t)len;
	memcpy(entry->name, t->bytes + from_le64(e->name), len);
	layer_dir_add(dir, entry, from_le64(e->hash));
}

struct layer_dir *layer_table_dir_at(struct layer_table *t, uint64_t row)
{
	struct layer_dir *dir;
	uint64_t count;

	if (row >= t->n_dirs)
		return NULL;
	dir = &t->own_dirs[row];
	if (dir->ino)
		return dir;
	count = from_le64(t->dirs[row].count);
	dir->ino = from_le64(t->dirs[row].ino);
	dir->names.n_buckets = buckets_for(count);
	dir->names.buckets = get(t, dir->names.n_buckets * sizeof(*dir->names.buckets));
	dir->cap = count;
	dir->slots = get(t, count * sizeof(*dir->slots));
	for (uint64_t i = 0; i < count; i++)
		load_entry(t, dir, &t->entries[t->first[row] + i]);
	return dir;
}

struct layer_inode *layer_table_inode(struct layer_table *t, uint64_t ino)
{
	uint64_t row = find_row(t->inodes, sizeof(*t->inodes), t->n_inodes, ino);

	return row < t->n_inodes ? layer_table_inode_at(t, row) : NULL;
}

struct layer_dir *layer_table_dir(struct layer_table *t, uint64_t ino)
{
	uint64_t row = find_row(t->dirs, sizeof(*t->dirs), t->n_dirs, ino);

	return row < t->n_dirs ? layer_table_dir_at(t, row) : NULL;
}

uint64_t layer_table_n_inodes(const struct layer_table *t)
{
	return t->n_inodes;
}
