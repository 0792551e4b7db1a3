/*
 * index_build: a tree in memory that becomes an index.
 *
 * A build owns its nodes. A node is one inode; names point to it. Numbers are given at build_write(): breadth
 * first with sorted names, so the order in which nodes were added does not matter.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct build;

struct build_node {
	uint32_t mode; /* type and 12 permission bits; the type may not change while the node has names */
	uint32_t uid, gid;
	uint64_t rdev; /* major << 32 | minor */
	uint64_t size; /* bytes; of directories too, as the base's file system counts them */
	uint64_t blocks;
	struct timespec mtime, ctime;
	uint64_t stamp;    /* see struct disk_inode */
	uint64_t checksum; /* content; 0: not recorded */
};

/* An empty tree: a root directory with mode 0755, owner 0:0 and times of 0. flags: enum index_flags. */
int build_new(unsigned int flags, struct build **out);
void build_free(struct build *b);

struct build_node *build_root(struct build *b);
uint64_t build_n_names(const struct build *b); /* names that point to the node's inodes, the root has none */

/* The node that parent/name means: 0, -ENOENT. */
int build_find(const struct build *b, const struct build_node *parent, const char *name, size_t len,
               struct build_node **out);

/*
 * A new node of this mode under a name that is free: 0, -EEXIST, -ENAMETOOLONG, -EINVAL for a name that no
 * name can be, -ENOMEM.
 */
int build_add(struct build *b, struct build_node *parent, const char *name, size_t len, uint32_t mode,
              struct build_node **out);

/* One more name for a node that is no directory: 0, -EEXIST, -EPERM for a directory, and as build_add(). */
int build_link(struct build *b, struct build_node *parent, const char *name, size_t len, struct build_node *node);

/* Takes a name away; the node goes with its last one. 0, -ENOENT, -ENOTEMPTY. */
int build_unlink(struct build *b, struct build_node *parent, const char *name, size_t len);

/* Any of a directory's names, borrowed: 0, -ENOENT when it has none. */
int build_any_name(const struct build_node *node, const char **name_out, size_t *len_out);

/* How many names the node has. */
unsigned int build_names_of(const struct build_node *node);

/* The symlink's target, copied. -ENAMETOOLONG above 4095 bytes. */
int build_set_target(struct build_node *node, const char *target, size_t len);

/* The inode's whole xattr_set, copied. */
int build_set_xattrs(struct build_node *node, const unsigned char *bytes, size_t len);

/*
 * Writes the index to the empty file fd. Nodes may not be used after it. -EOVERFLOW when a section would not
 * fit 32-bit offsets.
 */
int build_write(struct build *b, int fd);
