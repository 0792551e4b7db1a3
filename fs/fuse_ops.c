/*
 * fuse_ops: owns the answers to the kernel.
 * Invariant: every request is answered exactly once; every inode number given to the kernel is held in the
 * tree until it is forgotten.
 * Called by libfuse from serve's loop, on one thread.
 */
#include "fuse_ops.h"

#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crew.h"
#include "device.h"
#include "fuse_ops_reply.h"
#include "worker.h"

enum {
	BACKGROUND_MAX = 64, /* requests that the kernel may have under way without waiting */
	READERS_MIN = 2,     /* threads, or as many as there are CPUs for the daemon */
	READERS_MAX = 4,
	SYNCERS = 2,
	READ_FILES = 48, /* of FUSE_OPS_FILES */
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

static unsigned int reader_count(void)
{
	cpu_set_t allowed;
	int cpus = sched_getaffinity(0, sizeof(allowed), &allowed) < 0 ? READERS_MAX : CPU_COUNT(&allowed);

	if (cpus < READERS_MIN)
		return READERS_MIN;
	return cpus < READERS_MAX ? (unsigned int)cpus : READERS_MAX;
}

/* Reads do not wait for syncs. */
int fuse_ops_start(struct fuse_ops *ops)
{
	int r = crew_new(reader_count(), FUSE_OPS_READ_MAX, READ_FILES, &ops->reads);

	if (r == 0)
		r = crew_new(SYNCERS, 1, FUSE_OPS_FILES - READ_FILES - FUSE_OPS_WARM_FILES, &ops->syncs);
	return r < 0 ? r : worker_new(&ops->warmer);
}

void fuse_ops_stop(struct fuse_ops *ops)
{
	struct worker *warmer;

	if (!ops)
		return;
	crew_free(ops->reads);
	crew_free(ops->syncs);
	ops->reads = ops->syncs = NULL;
	warmer = ops->warmer; /* which the syncs gave their last ones to */
	ops->warmer = NULL;   /* nothing waits once more */
	worker_free(warmer);
}

void fuse_ops_free(struct fuse_ops *ops)
{
	free(ops);
}

static void ops_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fuse_ops *ops = userdata;

	fuse_ops_negotiate(conn, ops->options.posix);
	conn->max_background = BACKGROUND_MAX;
	if (conn->max_write > DEVICE_WRITE_MAX)
		conn->max_write = DEVICE_WRITE_MAX;
	conn->time_gran = 1;
	ops->forgotten = fuse_ops_forgotten(conn);
	ops->ready(ops->ready_arg);
}

static void ops_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_LOOKUP);
	struct inode inode;
	int r = tree_lookup(ops->tree, parent, name, &inode);

	if (r == -ENOENT) {
		/* Number 0: the name is absent, and stays so until the kernel makes it. */
		struct fuse_entry_param absent = {.entry_timeout = FUSE_OPS_FOREVER};

		fuse_reply_entry(req, &absent);
		return;
	}
	fuse_ops_reply_entry(req, ops, r, &inode);
}

static void ops_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_FORGET);

	tree_release(ops->tree, ino, n);
	fuse_reply_none(req);
}

static void ops_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_FORGET);

	for (size_t i = 0; i < count; i++)
		tree_release(ops->tree, forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

static void ops_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_GETATTR);
	struct inode inode;

	fuse_ops_reply_attr(req, tree_getattr(ops->tree, ino, &inode), &inode);
}

static void ops_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_SETATTR);
	struct tree_change change;
	struct inode inode;
	int r;

	fuse_ops_change(st, to_set, &change);
	fuse_ops_drop_group(req, ops, ino, &change);
	r = tree_setattr(ops->tree, ino, &change, &inode);
	if (fuse_ops_made_room(ops, r))
		r = tree_setattr(ops->tree, ino, &change, &inode);
	fuse_ops_reply_attr(req, r, &inode);
}

static void ops_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_READLINK);
	char text[PATH_MAX];
	const char *target;
	size_t len;
	int r = tree_readlink(ops->tree, ino, &target, &len);

	if (r < 0) {
		fuse_ops_reply_status(req, r);
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
		what->mode &= ~(uint32_t)(ctx->umask & 0777); /* a kernel sends no other bits */
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
	if (fuse_ops_made_room(ops, r))
		r = tree_make(ops->tree, parent, name, what, &inode);
	fuse_ops_reply_entry(req, ops, r, &inode);
}

/* What mknod(2) makes: a directory or a symlink needs more than a mode. */
static bool is_node(mode_t mode)
{
	return S_ISREG(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) || S_ISSOCK(mode);
}

static void ops_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct tree_new what = {.mode = mode, .rdev = (uint64_t)major(rdev) << 32 | minor(rdev)};
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_MKNOD);

	if (is_node(mode))
		make(req, ops, parent, name, &what);
	else
		fuse_ops_reply_status(req, -EINVAL);
}

static void ops_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct tree_new what = {.mode = S_IFDIR | (mode & 07777)};

	make(req, fuse_ops_begin(req, KIND_MKDIR), parent, name, &what);
}

static void ops_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct tree_new what = {.mode = S_IFLNK | 0777, .target = target};
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_SYMLINK);

	make(req, ops, parent, name, &what);
}

static void ops_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ops_reply_status(req, tree_unlink(fuse_ops_begin(req, KIND_UNLINK)->tree, parent, name));
}

static void ops_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	fuse_ops_reply_status(req, tree_rmdir(fuse_ops_begin(req, KIND_RMDIR)->tree, parent, name));
}

static void ops_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
                       unsigned int flags)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_RENAME);
	int r = tree_rename(ops->tree, parent, name, new_parent, new_name, flags);

	if (fuse_ops_made_room(ops, r))
		r = tree_rename(ops->tree, parent, name, new_parent, new_name, flags);
	fuse_ops_reply_status(req, r);
}

static void ops_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_LINK);
	struct inode inode;
	/* One that was let go of without a name is as the base has it again, and must stay out of reach. */
	int r = tree_is_held(ops->tree, ino) ? tree_link(ops->tree, ino, parent, name, &inode) : -ESTALE;

	if (fuse_ops_made_room(ops, r))
		r = tree_link(ops->tree, ino, parent, name, &inode);
	fuse_ops_reply_entry(req, ops, r, &inode);
}

/* Refused once, then the kernel opens by itself and keeps pages; copy-up waits for the first write. */
static void ops_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_ops_begin(req, KIND_OPEN);
	fuse_ops_reply_status(req, -ENOSYS);
}

static void ops_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_ops_begin(req, KIND_OPENDIR);
	fuse_ops_reply_status(req, -ENOSYS);
}

static void ops_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_ops_begin(req, KIND_FLUSH);
	fuse_ops_reply_status(req, -ENOSYS);
}

/* Who asks (hostfs, or the kernel under default_permissions) has checked already. */
static void ops_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	fuse_ops_begin(req, KIND_ACCESS);
	fuse_ops_reply_status(req, -ENOSYS);
}

/* Refused once: the kernel then makes files with mknod, one request where create needs a release too. */
static void ops_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
	fuse_ops_begin(req, KIND_CREATE);
	fuse_ops_reply_status(req, -ENOSYS);
}

static void ops_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_ops_begin(req, KIND_RELEASE);
	fuse_ops_reply_status(req, 0);
}

static void ops_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	fuse_ops_begin(req, KIND_RELEASEDIR);
	fuse_ops_reply_status(req, 0);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static void ops_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct fuse_entry_param entry = {.attr_timeout = FUSE_OPS_FOREVER, .entry_timeout = FUSE_OPS_FOREVER};
	struct fuse_ops *ops = fuse_ops_begin(req, KIND_TMPFILE);
	struct tree_new what = {.mode = S_IFREG | (mode & 07777)};
	struct inode inode;
	int r = fill_new(req, ops, parent, &what);

	if (r == 0)
		r = tree_make_nameless(ops->tree, &what, &inode);
	if (fuse_ops_made_room(ops, r))
		r = tree_make_nameless(ops->tree, &what, &inode);
	if (r == 0) {
		r = tree_hold(ops->tree, inode.ino);
		if (r < 0)
			tree_drop_if_dead(ops->tree, inode.ino);
	}
	if (r < 0) {
		fuse_ops_reply_status(req, r);
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
	.read = fuse_ops_read,
	.write = fuse_ops_write,
	.flush = ops_flush,
	.release = ops_release,
	.fsync = fuse_ops_fsync,
	.opendir = ops_opendir,
	.readdir = fuse_ops_readdir,
	.readdirplus = fuse_ops_readdirplus,
	.releasedir = ops_releasedir,
	.fsyncdir = fuse_ops_fsyncdir,
	.statfs = fuse_ops_statfs,
	.setxattr = fuse_ops_setxattr,
	.getxattr = fuse_ops_getxattr,
	.listxattr = fuse_ops_listxattr,
	.removexattr = fuse_ops_removexattr,
	.access = ops_access,
	.create = ops_create,
	.fallocate = fuse_ops_fallocate,
	.lseek = fuse_ops_lseek,
	.copy_file_range = fuse_ops_copy_file_range,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	.tmpfile = ops_tmpfile,
#endif
};

struct fuse_session *fuse_ops_session(struct fuse_ops *ops, struct fuse_args *args)
{
	return fuse_session_new(args, &table, sizeof(table), ops);
}

/*
 * libfuse before 3.17 takes note of some capabilities and then does not tell the kernel (parallel lookups; setuid bits that the
 * server minds). What it forgot is added to its answer to INIT on the way out. Newer ones refuse that (3.18.3 does); should an older
 * one, too, the kernel goes without.
 */
#if FUSE_VERSION < FUSE_MAKE_VERSION(3, 17)
static ssize_t hear(int fd, void *buf, size_t size, void *userdata)
{
	return read(fd, buf, size);
}

static ssize_t say(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_ops *ops = userdata;

	/* INIT is answered before anything else is asked. */
	if (ops->forgotten && fuse_ops_remind(ops->forgotten, iov, count))
		ops->forgotten = 0;
	return writev(fd, iov, count);
}

static ssize_t send_spliced(int from, off_t *from_offset, int to, off_t *to_offset, size_t len, unsigned int flags,
                            void *userdata)
{
	return splice(from, from_offset, to, to_offset, len, flags);
}

static int listen_in(struct fuse_session *session)
{
	static const struct fuse_custom_io io = {.writev = say, .read = hear, .splice_send = send_spliced};
	int r = fuse_session_custom_io(session, &io, fuse_session_fd(session));

	return r == -ENOTSUP ? 0 : r;
}
#else
static int listen_in(struct fuse_session *session)
{
	return 0;
}
#endif

int fuse_ops_mount(struct fuse_session *session, const char *mountpoint)
{
	return fuse_session_mount(session, mountpoint) != 0 ? -EIO : listen_in(session);
}
