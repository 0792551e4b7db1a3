/*
 * tree: owns the lookup counts and makes names.
 * Invariant: link counts are right after every operation: of files the number of their names, of directories
 * 2 and one for each subdirectory; an inode without names is there only while it is held.
 * Called by the front end and by tests.
 */
#include "tree.h"

#include <errno.h>
#include <string.h>

#include "format.h"

enum { NEW_DIR_SIZE = 4096 }; /* what a directory made in a session says of itself, bytes */

void tree_init(struct tree *t, struct session *session)
{
	*t = (struct tree){.session = session};
}

void tree_fini(struct tree *t)
{
	pin_fini(&t->pins);
}

struct timespec tree_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now;
}

int tree_hold(struct tree *t, uint64_t ino)
{
	return pin_get(&t->pins, ino);
}

bool tree_is_held(const struct tree *t, uint64_t ino)
{
	return pin_count(&t->pins, ino) > 0;
}

void tree_drop_if_dead(struct tree *t, uint64_t ino)
{
	struct inode inode;

	if (pin_count(&t->pins, ino) == 0 && stack_inode(&t->session->stack, ino, &inode) == 0 && inode.nlink == 0)
		session_forget(t->session, ino);
}

void tree_release(struct tree *t, uint64_t ino, uint64_t n)
{
	if (pin_put(&t->pins, ino, n))
		tree_drop_if_dead(t, ino);
}

bool tree_finish_removals(struct tree *t)
{
	return session_finish_removals(t->session);
}

int tree_name_length(const char *name)
{
	size_t len = strlen(name);

	if (len > FORMAT_NAME_MAX)
		return -ENAMETOOLONG;
	if (len == 0 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	return (int)len;
}

int tree_dir(struct tree *t, uint64_t ino, struct inode *out)
{
	int r = stack_inode(&t->session->stack, ino, out);

	if (r < 0)
		return r;
	if (!inode_is_dir(out))
		return -ENOTDIR;
	return out->nlink == 0 ? -ENOENT : 0;
}

static int find(struct tree *t, uint64_t parent, const char *name, size_t len, struct inode *out)
{
	uint64_t ino;
	int r = len > FORMAT_NAME_MAX ? -ENAMETOOLONG : stack_find(&t->session->stack, parent, name, len, &ino);

	if (r == 0)
		r = stack_inode(&t->session->stack, ino, out);
	return r == -ESTALE ? -EUCLEAN : r; /* a name that means nothing is damage */
}

int tree_lookup(struct tree *t, uint64_t parent, const char *name, struct inode *out)
{
	struct inode dir;
	int r = tree_dir(t, parent, &dir);

	if (r < 0)
		return r;
	if (strcmp(name, ".") == 0) {
		*out = dir;
		return 0;
	}
	if (strcmp(name, "..") == 0)
		return stack_inode(&t->session->stack, dir.parent, out);
	r = find(t, parent, name, strlen(name), out);
	if (r == 0)
		tree_count_blocks(t, out);
	return r;
}

/* Checks that parent/name is free to become a new name: the name's length, -EEXIST or what else forbids it. */
static int new_name(struct tree *t, uint64_t parent, const char *name, struct inode *dir)
{
	int r = tree_dir(t, parent, dir);
	int len = tree_name_length(name);
	uint64_t ino;

	if (r < 0)
		return r;
	if (len < 0)
		return len == -EINVAL ? -EEXIST : len;
	r = stack_find(&t->session->stack, parent, name, (size_t)len, &ino);
	if (r == -ENOENT)
		return len;
	return r == 0 ? -EEXIST : r;
}

/* Adds to the record that the directory got or lost an entry. */
static void touch_dir(struct session *s, struct inode *dir, int subdirs, struct timespec now)
{
	unsigned int fields = INODE_MTIME | INODE_CTIME;

	dir->mtime = now;
	dir->ctime = now;
	if (subdirs != 0) {
		dir->nlink += (uint32_t)subdirs;
		fields |= INODE_NLINK;
	}
	record_inode(&s->record, dir, fields);
}

static struct inode new_inode(struct session *s, const struct tree_new *what, uint64_t parent, struct timespec now)
{
	struct inode i = {
		.ino = session_new_ino(s),
		.mode = what->mode,
		.uid = what->uid,
		.gid = what->gid,
		.nlink = S_ISDIR(what->mode) ? 2 : 1,
		.atime = now,
		.mtime = now,
		.ctime = now,
		.content_layer = CONTENT_NONE,
	};

	if (S_ISDIR(what->mode)) {
		i.parent = parent;
		i.size = NEW_DIR_SIZE;
		i.blocks = NEW_DIR_SIZE / 512;
	}
	if (S_ISCHR(what->mode) || S_ISBLK(what->mode))
		i.rdev = what->rdev;
	if (S_ISLNK(what->mode))
		i.size = strlen(what->target);
	return i;
}

static void record_new(struct session *s, const struct inode *inode, const struct tree_new *what)
{
	unsigned int fields = INODE_NEW | INODE_MODE | INODE_UID | INODE_GID | INODE_NLINK | INODE_TIMES;

	if (inode_is_dir(inode))
		fields |= INODE_PARENT | INODE_BLOCKS;
	if (inode->size)
		fields |= INODE_SIZE;
	if (inode->rdev)
		fields |= INODE_RDEV;
	record_inode(&s->record, inode, fields);
	if (S_ISLNK(inode->mode))
		record_target(&s->record, inode->ino, what->target, strlen(what->target));
}

int tree_make(struct tree *t, uint64_t parent, const char *name, const struct tree_new *what, struct inode *out)
{
	struct session *s = t->session;
	struct timespec now = tree_now();
	struct inode dir, inode;
	int len = new_name(t, parent, name, &dir);
	int r;

	if (len < 0)
		return len;
	if (S_ISLNK(what->mode) && strlen(what->target) > FORMAT_TARGET_MAX)
		return -ENAMETOOLONG;
	r = quota_check_inode(&s->quota, &s->stack);
	if (r < 0)
		return r;
	inode = new_inode(s, what, parent, now);
	if (inode.ino == 0)
		return -ENOSPC;
	record_start(&s->record);
	record_new(s, &inode, what);
	record_entry(&s->record, parent, name, (size_t)len, inode.ino);
	touch_dir(s, &dir, S_ISDIR(what->mode) ? 1 : 0, now);
	r = session_apply(s);
	if (r == 0)
		*out = inode;
	return r;
}

int tree_make_nameless(struct tree *t, const struct tree_new *what, struct inode *out)
{
	struct session *s = t->session;
	struct inode inode;
	int r = quota_check_inode(&s->quota, &s->stack);

	if (r < 0)
		return r;
	inode = new_inode(s, what, 0, tree_now());
	if (inode.ino == 0)
		return -ENOSPC;
	inode.nlink = 0;
	record_start(&s->record);
	record_new(s, &inode, what);
	r = session_apply(s);
	if (r == 0)
		*out = inode;
	return r;
}

int tree_link(struct tree *t, uint64_t ino, uint64_t parent, const char *name, struct inode *out)
{
	struct session *s = t->session;
	struct timespec now = tree_now();
	struct inode dir, inode;
	int len = new_name(t, parent, name, &dir);
	int r;

	if (len < 0)
		return len;
	r = stack_inode(&s->stack, ino, &inode);
	if (r < 0)
		return r;
	if (inode_is_dir(&inode))
		return -EPERM;
	if (inode.nlink == UINT32_MAX)
		return -EMLINK;
	inode.nlink++;
	inode.ctime = now;
	record_start(&s->record);
	record_inode(&s->record, &inode, INODE_NLINK | INODE_CTIME);
	record_entry(&s->record, parent, name, (size_t)len, ino);
	touch_dir(s, &dir, 0, now);
	r = session_apply(s);
	if (r < 0)
		return r;
	tree_count_blocks(t, &inode);
	*out = inode;
	return 0;
}

/* Takes away a name whose inode was looked at already. */
static int remove_name(struct tree *t, struct inode *dir, const char *name, struct inode *inode)
{
	struct session *s = t->session;
	struct timespec now = tree_now();
	bool is_dir = inode_is_dir(inode);
	int r;

	inode->nlink = is_dir ? 0 : inode->nlink - 1;
	inode->ctime = now;
	record_start(&s->record);
	s->record.frees = true;
	record_entry(&s->record, dir->ino, name, strlen(name), 0);
	record_inode(&s->record, inode, INODE_NLINK | INODE_CTIME);
	touch_dir(s, dir, is_dir ? -1 : 0, now);
	r = session_apply(s);
	if (r == 0)
		tree_drop_if_dead(t, inode->ino);
	return r;
}

int tree_unlink(struct tree *t, uint64_t parent, const char *name)
{
	struct inode dir, inode;
	int r = tree_dir(t, parent, &dir);

	if (r == 0 && (strcmp(name, ".") == 0 || strcmp(name, "..") == 0))
		return -EISDIR;
	if (r == 0)
		r = find(t, parent, name, strlen(name), &inode);
	if (r < 0)
		return r;
	if (inode_is_dir(&inode))
		return -EISDIR;
	return remove_name(t, &dir, name, &inode);
}

int tree_rmdir(struct tree *t, uint64_t parent, const char *name)
{
	struct inode dir, inode;
	int r = tree_dir(t, parent, &dir);

	if (strcmp(name, ".") == 0)
		return -EINVAL;
	if (strcmp(name, "..") == 0)
		return -ENOTEMPTY;
	if (r == 0)
		r = find(t, parent, name, strlen(name), &inode);
	if (r < 0)
		return r;
	if (!inode_is_dir(&inode))
		return -ENOTDIR;
	r = tree_dir_empty(t, inode.ino);
	return r < 0 ? r : remove_name(t, &dir, name, &inode);
}
