/*
 * tree_attr: attributes, link targets, extended attributes.
 * Invariant: every change of an attribute sets ctime in the same record.
 * Called by the front end and by tests.
 */
#include "tree.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "cleanup.h"

void tree_count_blocks(struct tree *t, struct inode *inode)
{
	struct stat st;
	int fd = inode->dirty ? session_content(t->session, inode) : -1;

	if (fd >= 0 && fstat(fd, &st) == 0)
		inode->blocks = (uint64_t)st.st_blocks;
	if (inode->below)
		inode->blocks = session_blocks(t->session, inode);
}

int tree_getattr(struct tree *t, uint64_t ino, struct inode *out)
{
	int r = stack_inode(&t->session->stack, ino, out);

	if (r == 0)
		tree_count_blocks(t, out);
	return r;
}

void tree_assign(struct inode *inode, const struct tree_change *change)
{
	unsigned int fields = change->fields;

	if (fields & INODE_MODE)
		inode->mode = (inode->mode & S_IFMT) | (change->attr.mode & 07777);
	if (fields & INODE_UID)
		inode->uid = change->attr.uid;
	if (fields & INODE_GID)
		inode->gid = change->attr.gid;
	if (fields & INODE_ATIME)
		inode->atime = change->attr.atime;
	if (fields & INODE_MTIME)
		inode->mtime = change->attr.mtime;
	inode->ctime = fields & INODE_CTIME ? change->attr.ctime : tree_now();
}

static int set_fields(struct tree *t, uint64_t ino, const struct tree_change *change)
{
	struct session *s = t->session;
	unsigned int fields = change->fields & (INODE_MODE | INODE_UID | INODE_GID | INODE_TIMES);
	struct inode inode;
	int r = 0;

	if (fields & INODE_TIMES)
		r = session_settle_inode(s, ino);
	if (r == 0)
		r = stack_inode(&s->stack, ino, &inode);
	if (r < 0)
		return r;
	tree_assign(&inode, change);
	record_start(&s->record);
	record_inode(&s->record, &inode, fields | INODE_CTIME);
	return session_apply(s);
}

static bool is_time(struct timespec t)
{
	return t.tv_nsec >= 0 && t.tv_nsec < 1000000000;
}

int tree_setattr(struct tree *t, uint64_t ino, const struct tree_change *change, struct inode *out)
{
	const struct inode *attr = &change->attr;
	int r = 0;

	/* No record may tell such a time. */
	if ((change->fields & INODE_ATIME && !is_time(attr->atime)) ||
	    (change->fields & INODE_MTIME && !is_time(attr->mtime)) ||
	    (change->fields & INODE_CTIME && !is_time(attr->ctime)))
		return -EINVAL;
	if (change->fields & INODE_SIZE)
		r = tree_set_size(t, ino, change);
	else /* a chown to nobody sets nothing, and still counts as a change */
		r = set_fields(t, ino, change);
	return r < 0 ? r : tree_getattr(t, ino, out);
}

int tree_readlink(struct tree *t, uint64_t ino, const char **target_out, size_t *len_out)
{
	return stack_target(&t->session->stack, ino, target_out, len_out);
}

/* The name spaces of xattr(7); the kernel keeps those of access control lists to itself. */
static int check_xattr_name(const char *name)
{
	static const char *const spaces[] = {"user.", "trusted.", "security.", "system."};

	for (size_t i = 0; i < sizeof(spaces) / sizeof(spaces[0]); i++) {
		size_t len = strlen(spaces[i]);

		if (strncmp(name, spaces[i], len) == 0)
			return name[len] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

ssize_t tree_getxattr(struct tree *t, uint64_t ino, const char *name, void *value, size_t size)
{
	const void *found;
	struct xattr_set set;
	ssize_t len;
	int r = check_xattr_name(name);

	if (r == 0)
		r = stack_xattrs(&t->session->stack, ino, &set);
	if (r < 0)
		return r;
	len = xattr_set_get(set, name, &found);
	if (len < 0 || size == 0)
		return len;
	if ((size_t)len > size)
		return -ERANGE;
	memcpy(value, found, (size_t)len);
	return len;
}

ssize_t tree_listxattr(struct tree *t, uint64_t ino, char *names, size_t size)
{
	struct xattr_set set;
	int r = stack_xattrs(&t->session->stack, ino, &set);

	return r < 0 ? r : xattr_set_list(set, names, size);
}

static int store_set(struct tree *t, uint64_t ino, struct xattr_set set)
{
	struct session *s = t->session;
	struct inode inode;
	int r = stack_inode(&s->stack, ino, &inode);

	if (r < 0)
		return r;
	inode.ctime = tree_now();
	record_start(&s->record);
	record_inode(&s->record, &inode, INODE_CTIME);
	record_xattrs(&s->record, ino, set);
	return session_apply(s);
}

static int change_xattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
	cleanup_free unsigned char *bytes = NULL;
	struct xattr_set set;
	const void *found;
	bool exists;
	size_t len;
	int r = check_xattr_name(name);

	if (r == 0)
		r = stack_xattrs(&t->session->stack, ino, &set);
	if (r < 0)
		return r;
	exists = xattr_set_get(set, name, &found) >= 0;
	if (exists && flags & XATTR_CREATE)
		return -EEXIST;
	if (!exists && (flags & XATTR_REPLACE || !value))
		return -ENODATA;
	r = xattr_set_with(set, name, value, size, &bytes, &len);
	return r < 0 ? r : store_set(t, ino, (struct xattr_set){bytes, len});
}

int tree_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
	return change_xattr(t, ino, name, value ? value : "", size, flags);
}

int tree_removexattr(struct tree *t, uint64_t ino, const char *name)
{
	return change_xattr(t, ino, name, NULL, 0, 0);
}
