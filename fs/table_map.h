/*
 * table_map: a table on disk (format.h), mapped and checked: its sections, and nothing of what they mean.
 *
 * What comes out of table_map_open() has sorted rows within the limits that records are held to; everything they point to is
 * there, and all of it together is as long as the last section.
 */
#pragma once

#include "format.h"
#include "layer.h"

struct table_map {
	const unsigned char *map;
	size_t map_len;
	const struct disk_table_inode *inodes;
	const struct disk_table_dir *dirs;
	const struct disk_table_entry *entries;
	const unsigned char *bytes;
	uint64_t n_inodes, n_dirs, n_entries, bytes_len;
	uint64_t *first; /* of each directory's entries */
};

/*
 * Maps dirfd/table of layer l, when it belongs to the key: 0, -ENOENT, -EUCLEAN, or another -errno; then there is nothing to
 * close.
 */
int table_map_open(struct table_map *m, const struct layer *l, int dirfd, const struct layer_table_key *key);
void table_map_fini(struct table_map *m);

static inline const struct disk_table_header *table_map_header(const struct table_map *m)
{
	return (const struct disk_table_header *)m->map;
}

/* Whether an inode's row has a disk_table_part. */
static inline bool table_map_in_part(const struct disk_table_inode *d)
{
	return from_le32(d->n_here) != FORMAT_TABLE_UNTOLD;
}
