/*
 * fuse_ops: owns the answers to the kernel.
 * Invariant: every request is answered exactly once; every inode number given to the kernel is held in the tree until it is
 * forgotten.
 * Called by libfuse from serve's loop, on one thread.
 */
#include "fuse_ops.h"

#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "fuse_ops_attr.h"

enum {
	READ_MAX = 1 << 20,    /* bytes of one read or listing */
	BACKGROUND_MAX = 64,   /* requests that the kernel may have under way without waiting */
};

enum kind {
	KIND_LOOKUP, KIND_FORGET, KIND_GETATTR, KIND_SETATTR, KIND_READLINK, KIND_MKNOD, KIND_MKDIR, KIND_UNLINK,
	KIND_RMDIR, KIND_SYMLINK, KIND_RENAME, KIND_LINK, KIND_OPEN, KIND_READ, KIND_WRITE, KIND_STATFS, KIND_RELEASE,
	KIND_FSYNC, KIND_SETXATTR, KIND_GETXATTR, KIND_LISTXATTR, KIND_REMOVEXATTR, KIND_FLUSH, KIND_OPENDIR,
	KIND_READDIR, KIND_READDIRPLUS, KIND_RELEASEDIR, KIND_FSYNCDIR, KIND_ACCESS, KIND_CREATE, KIND_FALLOCATE,
	KIND_LSEEK, KIND_COPY_FILE_RANGE, KIND_TMPFILE, KIND_COUNT,
};

static const char *const kind_names[KIND_COUNT] = {
	"lookup", "forget", "getattr", "setattr", "readlink", "mknod", "mkdir", "unlink",
	"rmdir", "symlink", "rename", "link", "open", "read", "write", "statfs", "release",
	"fsync", "setxattr", "getxattr", "listxattr", "removexattr", "flush", "opendir",
	"readdir", "readdirplus", "releasedir", "fsyncdir", "access", "create", "fallocate",
	"lseek", "copy_file_range", "tmpfile",
};

struct fuse_ops {
	struct tree *tree;
	struct fuse_ops_options options;
	void (*ready)(void *arg);
	void *ready_arg;
	uint64_t counts[KIND_COUNT];
	char buffer[READ_MAX];
};

int fuse_ops_new(struct tree *tree, const struct fuse_ops_options *options, void (*ready)(void *arg), void *ready_arg,
                 struct fuse_ops **out)
{
	struct fuse_ops *ops = calloc(1, sizeof(*ops));

	if (!ops)
		return -ENOMEM;
	ops->tree = tree;
	ops->options = *options;
	ops->ready = ready;
	ops->ready_arg = ready_arg;
	*out = ops;
	return 0;
}

void fuse_ops_free(struct fuse_ops *ops)
{
	free(ops);
}

void fuse_ops_print_counts(const struct fuse_ops *ops, FILE *out)
{
	for (int kind = 0; kind < KIND_COUNT; kind++) {
		if (ops->counts[kind])
			fprintf(out, "requests %s %llu\n", kind_names[kind], (unsigned long long)ops->counts[kind]);
	}
}

/* Counts a request and answers its server. */
static struct fuse_ops *begin(fuse_req_t req, enum kind kind)
{
	struct fuse_ops *ops = fuse_req_userdata(req);

	ops->counts[kind]++;
	return ops;
}

/* The one place where the sign of an error flips. */
static void reply_status(fuse_req_t req, int r)
{
	fuse_reply_err(req, r < 0 ? -r : 0);
}

/* Answers with a name's inode, which the kernel then holds. */
static void reply_entry(fuse_req_t req, struct fuse_ops *ops, int r, const struct inode *inode)
{
	struct fuse_entry_param entry = {.attr_timeout = FUSE_OPS_FOREVER, .entry_timeout = FUSE_OPS_FOREVER};

	if (r == 0)
		r = tree_hold(ops->tree, inode->ino);
	if (r < 0) {
		reply_status(req, r);
		return;
	}
	entry.ino = inode->ino;
	fuse_ops_stat(inode, &entry.attr);
	if (fuse_reply_entry(req, &entry) == -ENOENT)
		tree_release(ops->tree, inode->ino, 1); /* the caller was interrupted and knows nothing of it */
}

static void reply_attr(fuse_req_t req, int r, const struct inode *inode)
{
	struct stat st;

	if (r < 0) {
		reply_status(req, r);
		return;
	}
	fuse_ops_stat(inode, &st);
	fuse_reply_attr(req, &st, FUSE_OPS_FOREVER);
}

static void reply_bytes(fuse_req_t req, ssize_t n, const void *bytes)
{
	if (n < 0)
		reply_status(req, (int)n);
	else
		fuse_reply_buf(req, bytes, (size_t)n);
}

static void ops_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fuse_ops *ops = userdata;

	fuse_ops_negotiate(conn, ops->options.posix);
	conn->max_background = BACKGROUND_MAX;
	conn->time_gran = 1;
	ops->ready(ops->ready_arg);
}

static void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_ops *ops = begin(req, KIND_LOOKUP);
	struct inode inode;
	int r = tree_lookup(ops->tree, parent, name, &inode);

	if (r == -ENOENT) {
		/* Number 0: the name is absent, and stays so until the kernel makes it. */
		struct fuse_entry_param absent = {.entry_timeout = FUSE_OPS_FOREVER};

		fuse_reply_entry(req, &absent);
		return;
	}
	reply_entry(req, ops, r, &inode);
}

static void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct fuse_ops *ops = begin(req, KIND_FORGET);

	tree_release(ops->tree, ino, n);
	fuse_reply_none(req);
}

static void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fuse_ops *ops = begin(req, KIND_FORGET);

	for (size_t i = 0; i < count; i++)
		tree_release(ops->tree, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = begin(req, KIND_GETATTR);
	struct inode inode;

	reply_attr(req, tree_getattr(ops->tree, ino, &inode), &inode);
}

static void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = begin(req, KIND_SETATTR);
	struct tree_change change;
	struct inode inode;

	fuse_ops_change(st, to_set, &change);
	reply_attr(req, tree_setattr(ops->tree, ino, &change, &inode), &inode);
}

static void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_ops *ops = begin(req, KIND_READLINK);
	char text[PATH_MAX];
	const char *target;
	size_t len;
	int r = tree_readlink(ops->tree, ino, &target, &len);

	if (r < 0) {
		reply_status(req, r);
		return;
	}
	memcpy(text, target, len);
	text[len] = '\0';
	fuse_reply_readlink(req, text);
}

/* The owner and the final mode of a new file, by the rules of the profile. */
static int fill_new(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t parent, struct tree_new *what)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);
	struct inode dir;
	int r = tree_getattr(ops->tree, parent, &dir);

	if (r < 0)
		return r;
	what->uid = ctx->uid;
	what->gid = ctx->gid;
	if (ops->options.posix)
		what->mode &= ~(uint32_t)ctx->umask;
	else if (!ops->options.owner_caller && ctx->uid == ops->options.host_uid) {
		what->uid = dir.uid;
		what->gid = dir.gid;
	}
	if (dir.mode & S_ISGID) {
		what->gid = dir.gid;
		what->mode |= S_ISDIR(what->mode) ? S_ISGID : 0;
	}
	return 0;
}

static void make(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t parent, const char *name, struct tree_new *what)
{
	struct inode inode;
	int r = fill_new(req, ops, parent, what);

	if (r == 0)
		r = tree_make(ops->tree, parent, name, what, &inode);
	reply_entry(req, ops, r, &inode);
}

static void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct tree_new what = {.mode = mode, .rdev = (uint64_t)major(rdev) << 32 | minor(rdev)};

	make(req, begin(req, KIND_MKNOD), parent, name, &what);
}

static void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct tree_new what = {.mode = S_IFDIR | (mode & 07777)};

	make(req, begin(req, KIND_MKDIR), parent, name, &what);
}

static void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct tree_new what = {.mode = S_IFLNK | 0777, .target = target};
	struct fuse_ops *ops = begin(req, KIND_SYMLINK);

	make(req, ops, parent, name, &what);
}

static void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply_status(req, tree_unlink(begin(req, KIND_UNLINK)->tree, parent, name));
}

static void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	reply_status(req, tree_rmdir(begin(req, KIND_RMDIR)->tree, parent, name));
}

static void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
                       const char *new_name, unsigned int flags)
{
	reply_status(req, tree_rename(begin(req, KIND_RENAME)->tree, parent, name, new_parent, new_name, flags));
}

static void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fuse_ops *ops = begin(req, KIND_LINK);
	struct inode inode;
	int r = tree_link(ops->tree, ino, parent, name, &inode);

	reply_entry(req, ops, r, &inode);
}

/* Refused once, then the kernel opens by itself and keeps pages; copy-up waits for the first write. */
static void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	begin(req, KIND_OPEN);
	reply_status(req, -ENOSYS);
}

static void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	begin(req, KIND_OPENDIR);
	reply_status(req, -ENOSYS);
}

static void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	begin(req, KIND_FLUSH);
	reply_status(req, -ENOSYS);
}

/* Who asks (hostfs, or the kernel under default_permissions) has checked already. */
static void ops_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	begin(req, KIND_ACCESS);
	reply_status(req, -ENOSYS);
}

/* Refused once: the kernel then makes files with mknod, one request where create needs a release too. */
static void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	begin(req, KIND_CREATE);
	reply_status(req, -ENOSYS);
}

static void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	begin(req, KIND_RELEASE);
	reply_status(req, 0);
}

static void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	begin(req, KIND_RELEASEDIR);
	reply_status(req, 0);
}

static void ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = begin(req, KIND_READ);

	if (size > READ_MAX)
		size = READ_MAX;
	reply_bytes(req, tree_read(ops->tree, ino, ops->buffer, size, (uint64_t)offset), ops->buffer);
}

static void ops_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                      struct fuse_file_info *fi)
{
	ssize_t n = tree_write(begin(req, KIND_WRITE)->tree, ino, bytes, size, (uint64_t)offset);

	if (n < 0)
		reply_status(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}

static void ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	reply_status(req, tree_fsync(begin(req, KIND_FSYNC)->tree, ino));
}

static void ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	reply_status(req, tree_fsync(begin(req, KIND_FSYNCDIR)->tree, ino));
}

/* A listing being filled. */
struct listing {
	fuse_req_t req;
	struct fuse_ops *ops;
	bool plus;
	size_t used, size;
	int result;
};

/* With attributes: the kernel then holds the inode, as after a lookup. */
static size_t add_plus(struct listing *l, const char *name, const struct stack_entry *from, size_t room)
{
	struct fuse_entry_param entry = {.attr_timeout = FUSE_OPS_FOREVER, .entry_timeout = FUSE_OPS_FOREVER};
	bool is_dot = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
	struct inode inode;
	size_t len;

	if (tree_getattr(l->ops->tree, from->ino, &inode) < 0) {
		l->result = -EUCLEAN;
		return 0;
	}
	fuse_ops_stat(&inode, &entry.attr);
	if (!is_dot)
		entry.ino = inode.ino;
	len = fuse_add_direntry_plus(l->req, l->ops->buffer + l->used, room, name, &entry, (off_t)from->cookie);
	if (len <= room && !is_dot)
		l->result = tree_hold(l->ops->tree, inode.ino);
	return len;
}

static size_t add_plain(struct listing *l, const char *name, const struct stack_entry *from, size_t room)
{
	struct stat st = {.st_ino = from->ino};
	struct inode inode;

	if (tree_getattr(l->ops->tree, from->ino, &inode) == 0)
		st.st_mode = inode.mode;
	return fuse_add_direntry(l->req, l->ops->buffer + l->used, room, name, &st, (off_t)from->cookie);
}

static int add_to_listing(void *arg, const struct stack_entry *from)
{
	struct listing *l = arg;
	size_t room = l->size - l->used;
	char name[NAME_MAX + 1];
	size_t len;

	memcpy(name, from->name, from->name_len);
	name[from->name_len] = '\0';
	len = l->plus ? add_plus(l, name, from, room) : add_plain(l, name, from, room);
	if (l->result < 0 || len > room)
		return 1;
	l->used += len;
	return 0;
}

static void list(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino, size_t size, off_t cookie, bool plus)
{
	struct listing l = {.req = req, .ops = ops, .plus = plus, .size = size < READ_MAX ? size : READ_MAX};
	int r = tree_readdir(ops->tree, ino, (uint64_t)cookie, add_to_listing, &l);

	if (l.result < 0 && l.used == 0)
		r = l.result;
	reply_bytes(req, r < 0 ? r : (ssize_t)l.used, ops->buffer);
}

static void ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	list(req, begin(req, KIND_READDIR), ino, size, cookie, false);
}

static void ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie, struct fuse_file_info *fi)
{
	list(req, begin(req, KIND_READDIRPLUS), ino, size, cookie, true);
}

static void ops_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	int r = tree_statfs(begin(req, KIND_STATFS)->tree, &st);

	if (r < 0)
		reply_status(req, r);
	else
		fuse_reply_statfs(req, &st);
}

static void ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
	struct fuse_ops *ops = begin(req, KIND_SETXATTR);

	reply_status(req, ops->options.xattr ? tree_setxattr(ops->tree, ino, name, value, size, flags) : -ENOSYS);
}

static void ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fuse_ops *ops = begin(req, KIND_GETXATTR);
	size_t room = size < READ_MAX ? size : READ_MAX;
	ssize_t n = ops->options.xattr ? tree_getxattr(ops->tree, ino, name, ops->buffer, room) : -ENOSYS;

	if (n >= 0 && size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		reply_bytes(req, n, ops->buffer);
}

static void ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct fuse_ops *ops = begin(req, KIND_LISTXATTR);
	size_t room = size < READ_MAX ? size : READ_MAX;
	ssize_t n = ops->options.xattr ? tree_listxattr(ops->tree, ino, ops->buffer, room) : -ENOSYS;

	if (n >= 0 && size == 0)
		fuse_reply_xattr(req, (size_t)n);
	else
		reply_bytes(req, n, ops->buffer);
}

static void ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fuse_ops *ops = begin(req, KIND_REMOVEXATTR);

	reply_status(req, ops->options.xattr ? tree_removexattr(ops->tree, ino, name) : -ENOSYS);
}

static void ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len,
                          struct fuse_file_info *fi)
{
	struct fuse_ops *ops = begin(req, KIND_FALLOCATE);

	reply_status(req, tree_fallocate(ops->tree, ino, mode, (uint64_t)offset, (uint64_t)len));
}

static void ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	int64_t found = tree_lseek(begin(req, KIND_LSEEK)->tree, ino, (uint64_t)offset, whence);

	if (found < 0)
		reply_status(req, (int)found);
	else
		fuse_reply_lseek(req, found);
}

static void ops_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_offset, struct fuse_file_info *src_fi,
                                fuse_ino_t dst, off_t dst_offset, struct fuse_file_info *dst_fi, size_t len, int flags)
{
	struct fuse_ops *ops = begin(req, KIND_COPY_FILE_RANGE);
	ssize_t n = tree_copy_range(ops->tree, src, (uint64_t)src_offset, dst, (uint64_t)dst_offset, len);

	if (n < 0)
		reply_status(req, (int)n);
	else
		fuse_reply_write(req, (size_t)n);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static void ops_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param entry = {.attr_timeout = FUSE_OPS_FOREVER, .entry_timeout = FUSE_OPS_FOREVER};
	struct fuse_ops *ops = begin(req, KIND_TMPFILE);
	struct tree_new what = {.mode = S_IFREG | (mode & 07777)};
	struct inode inode;
	int r = fill_new(req, ops, parent, &what);

	if (r == 0)
		r = tree_make_nameless(ops->tree, &what, &inode);
	if (r == 0)
		r = tree_hold(ops->tree, inode.ino);
	if (r < 0) {
		reply_status(req, r);
		return;
	}
	entry.ino = inode.ino;
	fuse_ops_stat(&inode, &entry.attr);
	fi->keep_cache = 1;
	if (fuse_reply_create(req, &entry, fi) == -ENOENT)
		tree_release(ops->tree, inode.ino, 1);
}
#endif

static const struct fuse_lowlevel_ops table = {
	.init = ops_init,
	.lookup = ops_lookup,
	.forget = ops_forget,
	.forget_multi = ops_forget_multi,
	.getattr = ops_getattr,
	.setattr = ops_setattr,
	.readlink = ops_readlink,
	.mknod = ops_mknod,
	.mkdir = ops_mkdir,
	.unlink = ops_unlink,
	.rmdir = ops_rmdir,
	.symlink = ops_symlink,
	.rename = ops_rename,
	.link = ops_link,
	.open = ops_open,
	.read = ops_read,
	.write = ops_write,
	.flush = ops_flush,
	.release = ops_release,
	.fsync = ops_fsync,
	.opendir = ops_opendir,
	.readdir = ops_readdir,
	.readdirplus = ops_readdirplus,
	.releasedir = ops_releasedir,
	.fsyncdir = ops_fsyncdir,
	.statfs = ops_statfs,
	.setxattr = ops_setxattr,
	.getxattr = ops_getxattr,
	.listxattr = ops_listxattr,
	.removexattr = ops_removexattr,
	.access = ops_access,
	.create = ops_create,
	.fallocate = ops_fallocate,
	.lseek = ops_lseek,
	.copy_file_range = ops_copy_file_range,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	.tmpfile = ops_tmpfile,
#endif
};

struct fuse_session *fuse_ops_session(struct fuse_ops *ops, struct fuse_args *args)
{
	return fuse_session_new(args, &table, sizeof(table), ops);
}
