/*
 * unit_inode: two inodes that must tell the same.
 * Invariant: what lies between the members counts for nothing.
 * Called by tests of what keeps inodes.
 */
#pragma once

#include "inode.h"

/* All that a record tells; a session knows more. */
void expect_same_inode(const struct inode *got, const struct inode *want);
