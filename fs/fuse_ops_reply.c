/*
 * fuse_ops_reply: counts and answers requests.
 * Invariant: an inode that the kernel was told of is held in the tree.
 * Called by the fuse_ops*.c files.
 */
#include "fuse_ops_reply.h"

#include <errno.h>
#include <time.h>

static const char *const kind_names[KIND_COUNT] = {
	"lookup",          "forget",      "getattr",    "setattr",  "readlink",  "mknod",       "mkdir",     "unlink",
	"rmdir",           "symlink",     "rename",     "link",     "open",      "read",        "write",     "statfs",
	"release",         "fsync",       "setxattr",   "getxattr", "listxattr", "removexattr", "flush",     "opendir",
	"readdir",         "readdirplus", "releasedir", "fsyncdir", "access",    "create",      "fallocate", "lseek",
	"copy_file_range", "tmpfile",
};

void fuse_ops_print_counts(const struct fuse_ops *ops, FILE *out)
{
	for (int kind = 0; kind < KIND_COUNT; kind++) {
		if (ops->counts[kind])
			fprintf(out, "requests %s %llu\n", kind_names[kind], (unsigned long long)ops->counts[kind]);
	}
}

struct fuse_ops *fuse_ops_begin(fuse_req_t req, enum fuse_ops_kind kind)
{
	struct fuse_ops *ops = fuse_req_userdata(req);

	ops->counts[kind]++;
	if (kind != KIND_FORGET)
		ops->client = fuse_req_ctx(req)->pid;
	return ops;
}

int64_t fuse_ops_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

pid_t fuse_ops_client(const struct fuse_ops *ops)
{
	return ops->client;
}

uint64_t fuse_ops_written_back(const struct fuse_ops *ops)
{
	return ops->written_back;
}

uint64_t fuse_ops_readings(const struct fuse_ops *ops)
{
	return ops->readings;
}

bool fuse_ops_made_room(struct fuse_ops *ops, ssize_t r)
{
	bool heard;

	if (r != -ENOSPC && r != -EDQUOT)
		return false;
	heard = ops->options.relieve(ops->options.relieve_arg, INT64_MAX) > 0;
	return tree_finish_removals(ops->tree) || heard;
}

void fuse_ops_reply_status(fuse_req_t req, int r)
{
	fuse_reply_err(req, r < 0 ? -r : 0);
}

void fuse_ops_reply_entry(fuse_req_t req, struct fuse_ops *ops, int r, const struct inode *inode)
{
	struct fuse_entry_param entry = {.attr_timeout = FUSE_OPS_FOREVER, .entry_timeout = FUSE_OPS_FOREVER};

	if (r == 0)
		r = tree_hold(ops->tree, inode->ino);
	if (r < 0) {
		fuse_ops_reply_status(req, r);
		return;
	}
	entry.ino = inode->ino;
	entry.generation = pin_generation(&ops->tree->pins, inode->ino);
	fuse_ops_stat(inode, &entry.attr);
	if (fuse_reply_entry(req, &entry) == -ENOENT)
		tree_release(ops->tree, inode->ino, 1); /* the caller was interrupted and knows nothing of it */
}

void fuse_ops_reply_attr(fuse_req_t req, int r, const struct inode *inode)
{
	struct stat st;

	if (r < 0) {
		fuse_ops_reply_status(req, r);
		return;
	}
	fuse_ops_stat(inode, &st);
	fuse_reply_attr(req, &st, FUSE_OPS_FOREVER);
}

void fuse_ops_reply_bytes(fuse_req_t req, ssize_t n, const void *bytes)
{
	if (n < 0)
		fuse_ops_reply_status(req, (int)n);
	else
		fuse_reply_buf(req, bytes, (size_t)n);
}

void fuse_ops_reply_written(fuse_req_t req, ssize_t n)
{
	if (n < 0)
		fuse_ops_reply_status(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}
