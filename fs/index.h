/*
 * index: a base's metadata, mapped read-only (format.h has the bytes).
 *
 * Pointers that the functions give out are borrowed from the map and live until index_free(). -EUCLEAN always
 * means that the file is damaged, -ESTALE that it has no inode of this number.
 */
#pragma once

#include <stdbool.h>

#include "checksum.h"
#include "inode.h"
#include "umlfs/log.h"
#include "xattr_set.h"

struct index;

struct index_entry {
	uint64_t parent, ino;
	const char *name; /* no terminator */
	size_t name_len;
};

/* Where a regular file's bytes are, and how to tell that somebody changed them. */
struct index_content {
	uint64_t size;
	uint64_t stamp;    /* mtime of the host file in ns, modulo 2^64 */
	uint64_t checksum; /* as checksum_content_end(); 0: not recorded */
};

/*
 * Maps dirfd/name after checking every checksum. label is how messages call the file. -ENOENT is left to the
 * caller to explain; the others (-EUCLEAN damaged, -EPROTONOSUPPORT of a newer version, errors of open(2) and
 * mmap(2)) are written to log.
 */
int index_open(int dirfd, const char *name, const char *label, const struct log *log, struct index **out);
void index_free(struct index *ix);

/* True when dirfd/name is the very file that is mapped, by another name perhaps: its bytes have been checked then. */
bool index_is_file(const struct index *ix, int dirfd, const char *name);

/* The identity: two indexes with the same one hold the same bytes. */
struct checksum_id index_id(const struct index *ix);

/* True when it was made from a plain directory at mount, not by import. */
bool index_scanned(const struct index *ix);

/* Inodes are 1 .. n, entries 0 .. n - 1. */
uint64_t index_n_inodes(const struct index *ix);
uint64_t index_n_entries(const struct index *ix);

int index_inode(const struct index *ix, uint64_t ino, struct inode *out);
int index_entry(const struct index *ix, uint64_t nr, struct index_entry *out); /* 0, -ENOENT, -EUCLEAN */

/* The run of entries of a directory: *first_out .. *first_out + *count_out - 1. -ENOTDIR. */
int index_dir(const struct index *ix, uint64_t ino, uint64_t *first_out, uint64_t *count_out);

/* Binary search among the names of parent: 0, -ENOENT, -EUCLEAN. A parent that is not here has no names. */
int index_lookup(const struct index *ix, uint64_t parent, const char *name, size_t len, uint64_t *ino_out);

/* The entry that the path of ino ends in: 0, -ENOENT for the root, -ESTALE. Whether it names ino is not looked at. */
int index_first_entry(const struct index *ix, uint64_t ino, uint64_t *nr_out);

int index_target(const struct index *ix, uint64_t ino, const char **target_out, size_t *len_out); /* -EINVAL */
int index_xattrs(const struct index *ix, uint64_t ino, struct xattr_set *out);
int index_content(const struct index *ix, uint64_t ino, struct index_content *out);

/* The path below the base's root under which the tree was made, on the heap; "." for the root. */
int index_path(const struct index *ix, uint64_t ino, char **path_out);

/*
 * Writes to log the first `most` paths in which two indexes differ, and what differs. The number of
 * differences written, 0 when they are the same. before and now are what the messages call them.
 */
int index_compare(const struct index *before, const struct index *now, unsigned int most, const struct log *log);
