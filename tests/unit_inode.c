/*
 * unit_inode: compares member by member, so that a failure says which.
 * Invariant: none; it keeps nothing.
 * Called by tests of what keeps inodes.
 */
#include "unit_inode.h"

#include "unit.h"

void expect_same_inode(const struct inode *got, const struct inode *want)
{
	assert_int_equal(got->ino, want->ino);
	assert_int_equal(got->mode, want->mode);
	assert_int_equal(got->uid, want->uid);
	assert_int_equal(got->gid, want->gid);
	assert_int_equal(got->nlink, want->nlink);
	assert_int_equal(got->rdev, want->rdev);
	assert_int_equal(got->size, want->size);
	assert_int_equal(got->blocks, want->blocks);
	assert_memory_equal(&got->atime, &want->atime, sizeof(want->atime));
	assert_memory_equal(&got->mtime, &want->mtime, sizeof(want->mtime));
	assert_memory_equal(&got->ctime, &want->ctime, sizeof(want->ctime));
	assert_int_equal(got->parent, want->parent);
}
