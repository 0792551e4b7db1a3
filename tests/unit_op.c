/*
 * unit_op: the same operation in two worlds.
 * Invariant: names are never followed through symlinks, in neither world.
 * Called by the unit tests.
 */
#include "unit_op.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "io.h"
#include "unit.h"

static const char *const kinds[OP_KINDS] = {
	"mkdir",    "mkfile", "mkfifo", "symlink", "link",  "unlink",   "rmdir",  "rename",   "write",
	"truncate", "punch",  "copy",   "chmod",   "chown", "allocate", "utimes", "setxattr", "removexattr",
};

const char *op_name(enum op_kind kind)
{
	return kinds[kind];
}

const char *op_xattr(uint64_t number)
{
	static const char *const names[] = {"user.a", "user.b", "user.c", "user.long name of an attribute"};

	return names[number % ARRAY_LEN(names)];
}

const char *op_text(const struct op *op, char text[2 * OP_PATH_MAX])
{
	snprintf(text, 2 * OP_PATH_MAX, "%s %s%s%s number %" PRIu64 " offset %" PRIu64 " len %zu", kinds[op->kind],
	         op->a, op->b ? " " : "", op->b ? op->b : "", op->number, op->offset, op->len);
	return text;
}

static const unsigned char *pattern(const struct op *op)
{
	static unsigned char bytes[OP_LEN_MAX];
	struct unit_random random = {op->number};

	assert_true(op->len <= sizeof(bytes));
	for (size_t i = 0; i < op->len; i++)
		bytes[i] = (unsigned char)unit_random(&random, 251);
	return bytes;
}

static int tree_new_node(struct world *w, const struct op *op, uint64_t dir, const char *name)
{
	struct tree_new what = {.mode = S_IFREG | 0644};
	struct inode out;

	if (op->kind == OP_MKDIR)
		what.mode = S_IFDIR | 0755;
	if (op->kind == OP_MKFIFO)
		what.mode = S_IFIFO | 0600;
	if (op->kind == OP_SYMLINK) {
		what.mode = S_IFLNK | 0777;
		what.target = op->b;
	}
	return tree_make(&w->tree, dir, name, &what, &out);
}

static int tree_two_names(struct world *w, const struct op *op, uint64_t dir, const char *name)
{
	struct inode inode, out;
	uint64_t to_dir;
	const char *to;
	int r = world_parent(w, op->b, &to_dir, &to);

	if (op->kind == OP_RENAME)
		return r < 0 ? r : tree_rename(&w->tree, dir, name, to_dir, to, (unsigned int)op->number);
	if (r == 0)
		r = tree_lookup(&w->tree, dir, name, &inode);
	return r < 0 ? r : tree_link(&w->tree, inode.ino, to_dir, to, &out);
}

static int tree_change_attr(struct world *w, const struct op *op, uint64_t ino)
{
	struct tree_change change = {0};
	struct inode out;

	if (op->kind == OP_SETXATTR)
		return tree_setxattr(&w->tree, ino, op_xattr(op->number), pattern(op), op->len, 0);
	if (op->kind == OP_REMOVEXATTR)
		return tree_removexattr(&w->tree, ino, op_xattr(op->number));
	if (op->kind == OP_CHMOD) {
		change.fields = INODE_MODE;
		change.attr.mode = (uint32_t)op->number;
	} else if (op->kind == OP_UTIMES) {
		change.fields = INODE_ATIME | INODE_MTIME;
		change.attr.mtime = (struct timespec){(time_t)op->number, (long)op->offset};
		change.attr.atime = change.attr.mtime;
	} else {
		change.fields = INODE_UID | INODE_GID;
		change.attr.uid = (uint32_t)(op->number >> 16);
		change.attr.gid = (uint32_t)(op->number & 0xffff);
	}
	return tree_setattr(&w->tree, ino, &change, &out);
}

static int whole(ssize_t n, size_t len)
{
	return n < 0 ? (int)n : (size_t)n == len ? 0 : -EIO;
}

static int tree_change_file(struct world *w, const struct op *op, const struct inode *inode)
{
	struct inode to;
	int r;

	switch (op->kind) {
	case OP_WRITE:
		return whole(tree_write(&w->tree, inode->ino, pattern(op), op->len, op->offset), op->len);
	case OP_TRUNCATE:
		return world_truncate(w, inode->ino, op->offset);
	case OP_PUNCH:
		return tree_fallocate(&w->tree, inode->ino, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, op->offset,
		                      op->len);
	case OP_ALLOCATE:
		return tree_fallocate(&w->tree, inode->ino, (int)op->number, op->offset, op->len);
	case OP_COPY:
		r = world_find(w, op->b, &to);
		if (r == 0 && !S_ISREG(to.mode))
			r = S_ISDIR(to.mode) ? -EISDIR : -EINVAL;
		if (r < 0)
			return r;
		r = (int)tree_copy_range(&w->tree, inode->ino, op->offset, to.ino, op->number, op->len);
		return r < 0 ? r : 0;
	default:
		return tree_change_attr(w, op, inode->ino);
	}
}

static bool needs_a_file(enum op_kind kind)
{
	return kind == OP_WRITE || kind == OP_TRUNCATE || kind == OP_PUNCH || kind == OP_COPY || kind == OP_ALLOCATE;
}

static bool is_about_xattrs(enum op_kind kind)
{
	return kind == OP_SETXATTR || kind == OP_REMOVEXATTR;
}

/* What the kernel refuses before a file system is asked: 0 or -errno. */
static int refusal(enum op_kind kind, mode_t mode)
{
	if (needs_a_file(kind) && !S_ISREG(mode))
		return S_ISDIR(mode) ? -EISDIR : -EINVAL;
	if (is_about_xattrs(kind) && !S_ISREG(mode) && !S_ISDIR(mode))
		return -EPERM;
	return kind == OP_CHMOD && S_ISLNK(mode) ? -EOPNOTSUPP : 0;
}

int op_tree(struct world *w, const struct op *op)
{
	struct inode inode;
	const char *name;
	uint64_t dir;
	int r = world_parent(w, op->a, &dir, &name);

	if (r < 0)
		return r;
	switch (op->kind) {
	case OP_MKDIR:
	case OP_MKFILE:
	case OP_MKFIFO:
	case OP_SYMLINK:
		return tree_new_node(w, op, dir, name);
	case OP_LINK:
	case OP_RENAME:
		return tree_two_names(w, op, dir, name);
	case OP_UNLINK:
		return tree_unlink(&w->tree, dir, name);
	case OP_RMDIR:
		return tree_rmdir(&w->tree, dir, name);
	default:
		break;
	}
	r = tree_lookup(&w->tree, dir, name, &inode);
	if (r == 0)
		r = refusal(op->kind, inode.mode);
	return r < 0 ? r : tree_change_file(w, op, &inode);
}

/* The directory that holds a path's last component: a descriptor or -errno. */
static int host_parent(int dirfd, const char *path, const char **name_out)
{
	char dir[OP_PATH_MAX];
	const char *slash = strrchr(path, '/');
	int fd;

	*name_out = slash ? slash + 1 : path;
	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
	fd = io_open_beneath(dirfd, dir, O_RDONLY | O_DIRECTORY, 0);
	return fd == -ELOOP ? -ENOTDIR : fd;
}

static int host_regular(int dirfd, const char *name)
{
	struct stat st;
	int fd;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	fd = openat(dirfd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

static int host_copy(int dirfd, const struct op *op, int from)
{
	loff_t from_at = (loff_t)op->offset, to_at = (loff_t)op->number;
	const char *name;
	int dir = host_parent(dirfd, op->b, &name);
	int to = dir < 0 ? dir : host_regular(dir, name);
	int r = to < 0 ? to : 0;

	if (r == 0 && copy_file_range(from, &from_at, to, &to_at, op->len, 0) < 0)
		r = -errno;
	if (to >= 0)
		close(to);
	if (dir >= 0)
		close(dir);
	return r;
}

static int host_change_file(int dirfd, const struct op *op, int dir, const char *name)
{
	int fd = host_regular(dir, name);
	int r = fd < 0 ? fd : 0;

	if (r < 0)
		return r;
	if (op->kind == OP_WRITE)
		r = whole(pwrite(fd, pattern(op), op->len, (off_t)op->offset), op->len);
	else if (op->kind == OP_TRUNCATE)
		r = ftruncate(fd, (off_t)op->offset) < 0 ? -errno : 0;
	else if (op->kind == OP_PUNCH)
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)op->offset, (off_t)op->len) < 0
		            ? -errno
		            : 0;
	else if (op->kind == OP_ALLOCATE)
		r = fallocate(fd, (int)op->number, (off_t)op->offset, (off_t)op->len) < 0 ? -errno : 0;
	else
		r = host_copy(dirfd, op, fd);
	close(fd);
	return r;
}

static int host_two_names(int dirfd, const struct op *op, int dir, const char *name)
{
	const char *to;
	int to_dir = host_parent(dirfd, op->b, &to);
	int r;

	if (to_dir < 0)
		return to_dir;
	if (op->kind == OP_RENAME)
		r = renameat2(dir, name, to_dir, to, (unsigned int)op->number);
	else
		r = linkat(dir, name, to_dir, to, 0);
	r = r < 0 ? -errno : 0;
	close(to_dir);
	return r;
}

static int host_change_xattr(const struct op *op, int dir, const char *name)
{
	const char *xattr = op_xattr(op->number);
	char path[64 + OP_PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	if (op->kind == OP_SETXATTR)
		r = lsetxattr(path, xattr, pattern(op), op->len, 0);
	else
		r = lremovexattr(path, xattr);
	return r < 0 ? -errno : 0;
}

static int host_change_attr(const struct op *op, int dir, const char *name)
{
	const struct timespec time = {(time_t)op->number, (long)op->offset};
	struct stat st;
	int r;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	r = refusal(op->kind, st.st_mode);
	if (r < 0)
		return r;
	if (is_about_xattrs(op->kind))
		return host_change_xattr(op, dir, name);
	if (op->kind == OP_UTIMES)
		return utimensat(dir, name, (struct timespec[]){time, time}, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
	if (op->kind == OP_CHMOD)
		return fchmodat(dir, name, (mode_t)op->number, 0) < 0 ? -errno : 0;
	return fchownat(dir, name, (uid_t)(op->number >> 16), (gid_t)(op->number & 0xffff), AT_SYMLINK_NOFOLLOW) < 0
	               ? -errno
	               : 0;
}

static int host_at(int dirfd, const struct op *op, int dir, const char *name)
{
	switch (op->kind) {
	case OP_MKDIR:
		return mkdirat(dir, name, 0755) < 0 ? -errno : 0;
	case OP_MKFILE:
		return mknodat(dir, name, S_IFREG | 0644, 0) < 0 ? -errno : 0;
	case OP_MKFIFO:
		return mknodat(dir, name, S_IFIFO | 0600, 0) < 0 ? -errno : 0;
	case OP_SYMLINK:
		return symlinkat(op->b, dir, name) < 0 ? -errno : 0;
	case OP_LINK:
	case OP_RENAME:
		return host_two_names(dirfd, op, dir, name);
	case OP_UNLINK:
		return unlinkat(dir, name, 0) < 0 ? -errno : 0;
	case OP_RMDIR:
		return unlinkat(dir, name, AT_REMOVEDIR) < 0 ? -errno : 0;
	default:
		return needs_a_file(op->kind) ? host_change_file(dirfd, op, dir, name)
		                              : host_change_attr(op, dir, name);
	}
}

int op_host(int dirfd, const struct op *op)
{
	const char *name;
	int dir = host_parent(dirfd, op->a, &name);
	int r = dir < 0 ? dir : host_at(dirfd, op, dir, name);

	if (dir >= 0)
		close(dir);
	return r;
}

int op_both(struct world *w, int hostfd, const struct op *op)
{
	int want = op_host(hostfd, op);
	char text[2 * OP_PATH_MAX];

	expect_status(op_tree(w, op), want, "%s", op_text(op, text));
	return want;
}
