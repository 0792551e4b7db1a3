/* fuse_ops_attr: inodes as FUSE wants to see them, and what is agreed with the kernel. For fuse_ops alone. */
#pragma once

#include <sys/stat.h>

#include "tree.h"

struct fuse_conn_info;
struct iovec;

/* Seconds that the kernel may keep what it was told: it clamps this to the longest time that it knows. */
#define FUSE_OPS_FOREVER 1e10

void fuse_ops_stat(const struct inode *inode, struct stat *st);

/* What a setattr request with these FUSE_SET_ATTR_* bits asks for. */
void fuse_ops_change(const struct stat *st, int to_set, struct tree_change *out);

/*
 * Asks for every capability that the contract wants and declines every other: libfuse's defaults differ
 * between versions.
 */
void fuse_ops_negotiate(struct fuse_conn_info *conn, bool posix);

/*
 * Flags for the answer to INIT that this libfuse forgets to set for what it was asked to negotiate. (Before 3.17 it takes note
 * of some capabilities and does not tell the kernel.)
 */
uint32_t fuse_ops_forgotten(const struct fuse_conn_info *conn);

/* Sets them, if this is the answer to INIT. */
bool fuse_ops_remind(uint32_t flags, const struct iovec *iov, int count);
