/*
 * layer_table: owns the memory that the rows of a mapped table come into.
 * Invariant: the arena has room for all rows. A row is in memory once its number there is not 0.
 * Called by layer.
 */
#include "layer_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "format.h"
#include "table_map.h"

enum { ALIGN = 8, BUCKETS_MIN = 16 };

struct layer_table {
	struct table_map m;
	unsigned char *arena;
	size_t arena_len, used;
	struct layer_inode *own_inodes; /* at the start of the arena, a place for each row */
	struct layer_dir *own_dirs;
};

static size_t aligned(size_t len)
{
	return (len + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t buckets_for(uint64_t count)
{
	size_t n = BUCKETS_MIN;

	while (n < count)
		n *= 2;
	return n;
}

/* At most what all rows take in memory. */
static size_t memory_for(const struct table_map *m)
{
	size_t inode = sizeof(struct layer_inode) + 2 * sizeof(struct layer_bytes) + sizeof(struct layer_part) +
	               5 * (size_t)ALIGN;
	size_t dir = sizeof(struct layer_dir) + BUCKETS_MIN * sizeof(struct map_node *) + 3 * (size_t)ALIGN;
	size_t entry = sizeof(struct layer_entry) + sizeof(struct layer_slot) + 2 * sizeof(struct map_node *) + ALIGN;

	return m->n_inodes * inode + m->n_dirs * dir + m->n_entries * entry + m->bytes_len;
}

/* The arena is address space: a page of it costs memory when something comes into it. */
static int make_arena(struct layer_table *t)
{
	size_t len = memory_for(&t->m) + ALIGN;
	void *arena = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (arena == MAP_FAILED)
		return -errno;
	t->arena = arena;
	t->arena_len = len;
	t->used = aligned(t->m.n_inodes * sizeof(*t->own_inodes) + t->m.n_dirs * sizeof(*t->own_dirs));
	t->own_inodes = arena;
	t->own_dirs = (struct layer_dir *)(t->own_inodes + t->m.n_inodes);
	return 0;
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

int layer_table_open(struct layer *l, int dirfd, const struct layer_table_key *key)
{
	struct layer_table *t = calloc(1, sizeof(*t));
	int r = t ? table_map_open(&t->m, l, dirfd, key) : -ENOMEM;

	if (r == 0)
		r = make_arena(t);
	if (r < 0) {
		layer_table_free(t);
		return r;
	}
	take_sums(l, table_map_header(&t->m));
	l->table = t;
	return 0;
}

void layer_table_free(struct layer_table *t)
{
	if (!t)
		return;
	table_map_fini(&t->m);
	if (t->arena)
		munmap(t->arena, t->arena_len);
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

	if (!table_map_in_part(d))
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

	if (row >= t->m.n_inodes)
		return NULL;
	d = &t->m.inodes[row];
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
	at = t->m.bytes + from_le64(d->bytes);
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
	memcpy(entry->name, t->m.bytes + from_le64(e->name), len);
	layer_dir_add(dir, entry, from_le64(e->hash));
}

struct layer_dir *layer_table_dir_at(struct layer_table *t, uint64_t row)
{
	struct layer_dir *dir;
	uint64_t count;

	if (row >= t->m.n_dirs)
		return NULL;
	dir = &t->own_dirs[row];
	if (dir->ino)
		return dir;
	count = from_le64(t->m.dirs[row].count);
	dir->ino = from_le64(t->m.dirs[row].ino);
	dir->names.n_buckets = buckets_for(count);
	dir->names.buckets = get(t, dir->names.n_buckets * sizeof(*dir->names.buckets));
	dir->cap = count;
	dir->slots = get(t, count * sizeof(*dir->slots));
	for (uint64_t i = 0; i < count; i++)
		load_entry(t, dir, &t->m.entries[t->m.first[row] + i]);
	return dir;
}

struct layer_inode *layer_table_inode(struct layer_table *t, uint64_t ino)
{
	uint64_t row = find_row(t->m.inodes, sizeof(*t->m.inodes), t->m.n_inodes, ino);

	return row < t->m.n_inodes ? layer_table_inode_at(t, row) : NULL;
}

struct layer_dir *layer_table_dir(struct layer_table *t, uint64_t ino)
{
	uint64_t row = find_row(t->m.dirs, sizeof(*t->m.dirs), t->m.n_dirs, ino);

	return row < t->m.n_dirs ? layer_table_dir_at(t, row) : NULL;
}

uint64_t layer_table_n_inodes(const struct layer_table *t)
{
	return t->m.n_inodes;
}
