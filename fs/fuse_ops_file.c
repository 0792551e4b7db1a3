/*
 * fuse_ops_file: the requests about bytes and extended attributes.
 * Invariant: each is decoded, becomes one tree_*() call, and is answered once.
 * Called by libfuse through fuse_ops's table.
 */
#include "fuse_ops_reply.h"

#include <errno.h>
#include <string.h>

void fuse_ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_READ);

	if (size > FUSE_OPS_READ_MAX)
		size = FUSE_OPS_READ_MAX;
	fuse_ops_reply_bytes(req, tree_read(ops->tree, ino, ops->buffer, size, (uint64_t)offset), ops->buffer);
}

void fuse_ops_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                    struct fuse_file_info *fi)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_WRITE);
	ssize_t n = tree_write(ops->tree, ino, bytes, size, (uint64_t)offset);

	if (fuse_ops_made_room(ops, n))
		n = tree_write(ops->tree, ino, bytes, size, (uint64_t)offset);
	fuse_ops_reply_written(req, n);
}

void fuse_ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_ops_reply_status(req, tree_fsync(fuse_ops_begin(req, KIND_FSYNC)->tree, ino));
}

void fuse_ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	fuse_ops_reply_status(req, tree_fsync(fuse_ops_begin(req, KIND_FSYNCDIR)->tree, ino));
}

void fuse_ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_STATFS);
	struct statvfs st;
	int r;

	ops->options.relieve(ops->options.relieve_arg);
	r = tree_statfs(ops->tree, &st);
	if (r < 0)
		fuse_ops_reply_status(req, r);
	else
		fuse_reply_statfs(req, &st);
}

void fuse_ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_SETXATTR);
	int r = -ENOSYS;

	/*
	 * An ACL that is accepted and not honoured takes rights away or gives them: the ones of the base are
	 * shown only.
	 */
	if (ops->options.xattr && strncmp(name, "system.", 7) == 0)
		r = -EOPNOTSUPP;
	else if (ops->options.xattr)
		r = tree_setxattr(ops->tree, ino, name, value, size, flags);
	fuse_ops_reply_status(req, r);
}

void fuse_ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_GETXATTR);
	size_t room = size < FUSE_OPS_READ_MAX ? size : FUSE_OPS_READ_MAX;
	ssize_t n = ops->options.xattr ? tree_getxattr(ops->tree, ino, name, ops->buffer, room) : -ENOSYS;

	if (n >= 0 && size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_ops_reply_bytes(req, n, ops->buffer);
}

void fuse_ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_LISTXATTR);
	size_t room = size < FUSE_OPS_READ_MAX ? size : FUSE_OPS_READ_MAX;
	ssize_t n = ops->options.xattr ? tree_listxattr(ops->tree, ino, ops->buffer, room) : -ENOSYS;

	if (n >= 0 && size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		fuse_ops_reply_bytes(req, n, ops->buffer);
}

void fuse_ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_REMOVEXATTR);

	fuse_ops_reply_status(req, ops->options.xattr ? tree_removexattr(ops->tree, ino, name) : -ENOSYS);
}

void fuse_ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_FALLOCATE);
	int r = tree_fallocate(ops->tree, ino, mode, (uint64_t)offset, (uint64_t)len);

	if (fuse_ops_made_room(ops, r))
		r = tree_fallocate(ops->tree, ino, mode, (uint64_t)offset, (uint64_t)len);
	fuse_ops_reply_status(req, r);
}

void fuse_ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	int64_t found = tree_lseek(fuse_ops_begin(req, KIND_LSEEK)->tree, ino, (uint64_t)offset, whence);

	if (found < 0)
		fuse_ops_reply_status(req, (int)found);
	else
		fuse_reply_lseek(req, found);
}

void fuse_ops_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_offset, struct fuse_file_info *src_fi,
                              fuse_ino_t dst, off_t dst_offset, struct fuse_file_info *dst_fi, size_t len, int flags)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_COPY_FILE_RANGE);
	ssize_t n = tree_copy_range(ops->tree, src, (uint64_t)src_offset, dst, (uint64_t)dst_offset, len);

	if (fuse_ops_made_room(ops, n))
		n = tree_copy_range(ops->tree, src, (uint64_t)src_offset, dst, (uint64_t)dst_offset, len);
	fuse_ops_reply_written(req, n);
}
