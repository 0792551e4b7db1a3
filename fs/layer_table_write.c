/*
 * layer_table_write: owns the bytes of a table while they are put together.
 * Invariant: what is written is what the layer holds, in the order of numbers and cookies; it replaces an old table in one step.
 * Called by layer.
 */
#include "layer_table.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "checksum.h"
#include "cleanup.h"
#include "format.h"
#include "io.h"

/* What the layer holds, by growing number, and how much that is. */
struct build {
	const struct layer_inode **inodes;
	const struct layer_dir **dirs;
	size_t n_inodes, n_dirs;
	uint64_t n_entries, bytes_len;
	unsigned char *bytes_start, *bytes; /* the last section, and where in it the next bytes go */
};

static uint64_t part_bytes(const struct layer_part *part)
{
	return part ? sizeof(struct disk_table_part) + 2 * sizeof(struct le64) * (part->here.n + part->fresh.n) : 0;
}

static void gather_inode(struct map_node *node, void *arg)
{
	const struct layer_inode *inode = (const struct layer_inode *)node;
	struct build *b = arg;

	b->inodes[b->n_inodes++] = inode;
	b->bytes_len += (inode->target ? inode->target->len : 0) + (inode->xattrs ? inode->xattrs->len : 0) +
	                part_bytes(inode->part);
}

static void gather_dir(struct map_node *node, void *arg)
{
	const struct layer_dir *dir = (const struct layer_dir *)node;
	struct build *b = arg;

	b->dirs[b->n_dirs++] = dir;
	b->n_entries += dir->live;
	for (size_t i = 0; i < dir->n; i++)
		b->bytes_len += dir->slots[i].entry ? dir->slots[i].entry->len : 0;
}

static int compare_inodes(const void *a, const void *b)
{
	uint64_t one = (*(const struct layer_inode *const *)a)->attr.ino;
	uint64_t other = (*(const struct layer_inode *const *)b)->attr.ino;

	return (one > other) - (one < other);
}

static int compare_dirs(const void *a, const void *b)
{
	uint64_t one = (*(const struct layer_dir *const *)a)->ino;
	uint64_t other = (*(const struct layer_dir *const *)b)->ino;

	return (one > other) - (one < other);
}

static int gather(const struct layer *l, struct build *b)
{
	b->inodes = calloc(l->inodes.n + 1, sizeof(struct layer_inode *));
	b->dirs = calloc(l->dirs.n + 1, sizeof(struct layer_dir *));
	if (!b->inodes || !b->dirs)
		return -ENOMEM;
	map_each(&l->inodes, gather_inode, b);
	map_each(&l->dirs, gather_dir, b);
	qsort(b->inodes, b->n_inodes, sizeof(*b->inodes), compare_inodes);
	qsort(b->dirs, b->n_dirs, sizeof(*b->dirs), compare_dirs);
	return 0;
}

/* Adds bytes to the last section: their offset there. */
static uint64_t put(struct build *b, const void *bytes, size_t len)
{
	uint64_t offset = (uint64_t)(b->bytes - b->bytes_start);

	memcpy(b->bytes, bytes, len);
	b->bytes += len;
	return offset;
}

static struct le32 put_bytes(struct build *b, const struct layer_bytes *bytes)
{
	if (!bytes)
		return le32(FORMAT_TABLE_UNTOLD);
	put(b, bytes->bytes, bytes->len);
	return le32((uint32_t)bytes->len);
}

static struct le32 put_ranges(struct build *b, const struct ranges *r)
{
	for (size_t i = 0; i < r->n; i++) {
		const struct le64 pair[2] = {le64(r->list[i].from), le64(r->list[i].to)};

		put(b, pair, sizeof(pair));
	}
	return le32((uint32_t)r->n);
}

static void put_part(struct build *b, const struct layer_part *part, struct disk_table_inode *out)
{
	struct disk_table_part disk;

	out->n_here = le32(FORMAT_TABLE_UNTOLD);
	out->n_fresh = le32(0);
	if (!part)
		return;
	disk = (struct disk_table_part){.below = le64(part->below), .cap = le64(part->cap)};
	put(b, &disk, sizeof(disk));
	out->n_here = put_ranges(b, &part->here);
	out->n_fresh = put_ranges(b, &part->fresh);
}

static void put_inode(struct build *b, const struct layer_inode *inode, struct disk_table_inode *out)
{
	const struct inode *attr = &inode->attr;

	*out = (struct disk_table_inode){
		.ino = le64(attr->ino),
		.mode = le32(attr->mode),
		.uid = le32(attr->uid),
		.gid = le32(attr->gid),
		.nlink = le32(attr->nlink),
		.rdev = le64(attr->rdev),
		.size = le64(attr->size),
		.blocks = le64(attr->blocks),
		.floor = le64(attr->floor),
		.atime = disk_time(attr->atime),
		.mtime = disk_time(attr->mtime),
		.ctime = disk_time(attr->ctime),
		.parent = le64(attr->parent),
		.below = le64(attr->below),
		.content_layer = le32(attr->content_layer),
		.dirty = le32(attr->dirty),
		.bytes = le64((uint64_t)(b->bytes - b->bytes_start)),
	};
	out->target_len = put_bytes(b, inode->target);
	out->xattrs_len = put_bytes(b, inode->xattrs);
	put_part(b, inode->part, out);
}

static struct disk_table_entry *put_entries(struct build *b, const struct layer_dir *dir, struct disk_table_entry *out)
{
	for (size_t i = 0; i < dir->n; i++) {
		const struct layer_entry *entry = dir->slots[i].entry;

		if (!entry)
			continue;
		*out++ = (struct disk_table_entry){
			.ino = le64(entry->ino),
			.cookie = le64(entry->cookie),
			.hash = le64(entry->node.hash),
			.name = le64(put(b, entry->name, entry->len)),
			.name_len = le32(entry->len),
		};
	}
	return out;
}

static void fill_body(struct build *b, unsigned char *body)
{
	struct disk_table_inode *inodes = (struct disk_table_inode *)body;
	struct disk_table_dir *dirs = (struct disk_table_dir *)(inodes + b->n_inodes);
	struct disk_table_entry *entries = (struct disk_table_entry *)(dirs + b->n_dirs);

	b->bytes_start = b->bytes = (unsigned char *)(entries + b->n_entries);
	for (size_t i = 0; i < b->n_inodes; i++)
		put_inode(b, b->inodes[i], &inodes[i]);
	for (size_t i = 0; i < b->n_dirs; i++) {
		dirs[i] = (struct disk_table_dir){.ino = le64(b->dirs[i]->ino), .count = le64(b->dirs[i]->live)};
		entries = put_entries(b, b->dirs[i], entries);
	}
}

static void fill_header(const struct build *b, const struct layer *l, const struct layer_table_key *key,
                        uint64_t fingerprint, struct disk_table_header *out, size_t body_len)
{
	*out = (struct disk_table_header){
		.version = le32(FORMAT_TABLE_VERSION),
		.layer = le32(l->id),
		.first_ino = le64(l->first_ino),
		.journal_len = le64(key->sealed),
		.journal = le64(fingerprint),
		.under = le64(key->under),
		.n_inodes = le64(b->n_inodes),
		.n_dirs = le64(b->n_dirs),
		.n_entries = le64(b->n_entries),
		.bytes_len = le64(b->bytes_len),
		.ino_end = le64(l->ino_end),
		.tombstones = le64(l->n_tombstones),
		.unsettled = le64(l->n_unsettled),
		.owed = le64(l->owed),
		.content_bytes = le64(l->bytes),
		.blocks = le64(l->blocks),
		.made = le64((uint64_t)l->made),
		.body = le64(checksum64(out + 1, body_len, fingerprint)),
	};
	memcpy(out->magic, FORMAT_TABLE_MAGIC, sizeof(out->magic));
	out->checksum = le64(checksum64(out, offsetof(struct disk_table_header, checksum), 0));
}

/* A copy must not take the last room: what comes next may be no copy. */
static bool has_room(int dirfd, uint64_t len)
{
	struct statvfs st;

	return fstatvfs(dirfd, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize / 4 > len;
}

static int write_table(struct build *b, const struct layer *l, int dirfd, const struct layer_table_key *key)
{
	size_t len = b->n_inodes * sizeof(struct disk_table_inode) + b->n_dirs * sizeof(struct disk_table_dir) +
	             b->n_entries * sizeof(struct disk_table_entry) + b->bytes_len;
	cleanup_free unsigned char *bytes = malloc(sizeof(struct disk_table_header) + len);
	struct disk_table_header *table = (struct disk_table_header *)bytes;
	uint64_t fingerprint;
	int r;

	if (!bytes)
		return -ENOMEM;
	r = journal_fingerprint(dirfd, key->sealed, &fingerprint);
	if (r < 0)
		return r;
	if (!has_room(dirfd, sizeof(*table) + len))
		return -ENOSPC;
	fill_body(b, (unsigned char *)(table + 1));
	fill_header(b, l, key, fingerprint, table, len);
	return io_replace_file(dirfd, "table", table, sizeof(*table) + len);
}

int layer_table_write(const struct layer *l, int dirfd, const struct layer_table_key *key)
{
	struct build b = {0};
	int r = gather(l, &b);

	if (r == 0)
		r = write_table(&b, l, dirfd, key);
	free(b.inodes);
	free(b.dirs);
	return r;
}
