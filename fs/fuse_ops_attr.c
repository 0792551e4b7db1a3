/*
 * fuse_ops_attr: converts between struct inode and FUSE, and negotiates.
 * Invariant: nothing is left to libfuse's defaults.
 * Called by fuse_ops.
 */
#include "fuse_ops_attr.h"

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>

void fuse_ops_stat(const struct inode *inode, struct stat *st)
{
	*st = (struct stat){
		.st_ino = inode->ino,
		.st_mode = inode->mode,
		.st_nlink = inode->nlink,
		.st_uid = inode->uid,
		.st_gid = inode->gid,
		.st_rdev = makedev((unsigned int)(inode->rdev >> 32), (unsigned int)inode->rdev),
		.st_size = (off_t)inode->size,
		.st_blksize = 4096,
		.st_blocks = (blkcnt_t)inode->blocks,
		.st_atim = inode->atime,
		.st_mtim = inode->mtime,
		.st_ctim = inode->ctime,
	};
}

void fuse_ops_change(const struct stat *st, int to_set, struct tree_change *out)
{
	struct tree_change change = {.attr = {
					     .mode = st->st_mode,
					     .uid = st->st_uid,
					     .gid = st->st_gid,
					     .size = (uint64_t)st->st_size,
					     .atime = st->st_atim,
					     .mtime = st->st_mtim,
					     .ctime = st->st_ctim,
				     }};

	if (to_set & FUSE_SET_ATTR_MODE)
		change.fields |= INODE_MODE;
	if (to_set & FUSE_SET_ATTR_UID)
		change.fields |= INODE_UID;
	if (to_set & FUSE_SET_ATTR_GID)
		change.fields |= INODE_GID;
	if (to_set & FUSE_SET_ATTR_SIZE)
		change.fields |= INODE_SIZE;
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_ATIME_NOW))
		change.fields |= INODE_ATIME;
	if (to_set & (FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_MTIME_NOW))
		change.fields |= INODE_MTIME;
	if (to_set & FUSE_SET_ATTR_CTIME)
		change.fields |= INODE_CTIME;
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		change.attr.atime = tree_now();
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		change.attr.mtime = tree_now();
	*out = change;
}

/* The 64-bit words came with 3.17; before it all capabilities fit one of 32 bits. */
static void want(struct fuse_conn_info *conn, uint64_t capability)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	fuse_set_feature_flag(conn, capability);
#else
	conn->want |= (unsigned int)capability & conn->capable;
#endif
}

static void want_nothing(struct fuse_conn_info *conn)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	for (unsigned int bit = 0; bit < 64; bit++)
		fuse_unset_feature_flag(conn, UINT64_C(1) << bit);
#else
	conn->want = 0;
#endif
}

void fuse_ops_negotiate(struct fuse_conn_info *conn, bool posix)
{
	want_nothing(conn);
	want(conn, FUSE_CAP_ASYNC_READ);
	want(conn, FUSE_CAP_SPLICE_WRITE);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_DONT_MASK);
	want(conn, FUSE_CAP_READDIRPLUS);
	want(conn, FUSE_CAP_CACHE_SYMLINKS);
	want(conn, FUSE_CAP_NO_OPEN_SUPPORT);
	want(conn, FUSE_CAP_NO_OPENDIR_SUPPORT);
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	want(conn, FUSE_CAP_NO_EXPORT_SUPPORT);
#endif
	/*
	 * For a guest, its own kernel takes setuid bits away and says so with a chmod: this kernel must not
	 * do it again. For host processes the kernel does it, when nobody else claims to.
	 */
	if (posix)
		return;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
#else
	want(conn, FUSE_CAP_HANDLE_KILLPRIV);
#endif
}

uint32_t fuse_ops_forgotten(const struct fuse_conn_info *conn)
{
	uint32_t flags = 0;

#if FUSE_VERSION < FUSE_MAKE_VERSION(3, 17)
	if (conn->want & FUSE_CAP_PARALLEL_DIROPS)
		flags |= FUSE_PARALLEL_DIROPS;
	if (conn->want & FUSE_CAP_HANDLE_KILLPRIV)
		flags |= FUSE_HANDLE_KILLPRIV;
#endif
	return flags;
}

bool fuse_ops_remind(uint32_t flags, const struct iovec *iov, int count)
{
	struct fuse_init_out *init = count == 2 ? iov[1].iov_base : NULL;

	if (!init || iov[0].iov_len != sizeof(struct fuse_out_header) || iov[1].iov_len < sizeof(*init) ||
	    init->major != FUSE_KERNEL_VERSION)
		return false;
	init->flags |= flags;
	return true;
}
