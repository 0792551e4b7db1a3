/*
 * tree_rename: moves names.
 * Invariant: no directory ever becomes its own ancestor, and link counts and ".." follow the move.
 * Called by the front end and by tests.
 */
#include "tree.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>

#include "format.h"

/* Everything that a rename looks at before it decides. */
struct move {
	struct inode from_dir, to_dir;
	const char *from_name, *to_name;
	size_t from_len, to_len;
	struct inode source, target;
	bool has_target;
};

/* True when `ino` is `dir` or lies below it, or where parents go round in a circle, which is damage. */
static bool is_within(struct tree *t, uint64_t ino, uint64_t dir)
{
	uint64_t mark = ino;
	struct inode inode;

	for (uint64_t steps = 1; ino != dir && ino != FORMAT_ROOT_INO; steps++) {
		if (stack_inode(&t->session->stack, ino, &inode) < 0)
			return true;
		ino = inode.parent;
		if (ino == mark)
			return true;
		if ((steps & (steps - 1)) == 0) /* farther apart each time: a mark comes to lie in the circle */
			mark = ino;
	}
	return ino == dir;
}

static int find(struct tree *t, uint64_t parent, const char *name, struct inode *out)
{
	uint64_t ino;
	int r = stack_find(&t->session->stack, parent, name, strlen(name), &ino);

	return r < 0 ? r : stack_inode(&t->session->stack, ino, out);
}

static int look(struct tree *t, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
                struct move *m)
{
	int from_len = tree_name_length(name);
	int to_len = tree_name_length(new_name);
	int r = tree_dir(t, parent, &m->from_dir);

	if (r == 0)
		r = tree_dir(t, new_parent, &m->to_dir);
	if (r < 0)
		return r;
	if (from_len < 0 || to_len < 0)
		return from_len == -ENAMETOOLONG || to_len == -ENAMETOOLONG ? -ENAMETOOLONG : -EBUSY;
	m->from_name = name;
	m->from_len = (size_t)from_len;
	m->to_name = new_name;
	m->to_len = (size_t)to_len;
	r = find(t, parent, name, &m->source);
	if (r < 0)
		return r;
	r = find(t, new_parent, new_name, &m->target);
	m->has_target = r == 0;
	return r == -ENOENT ? 0 : r;
}

static int check_replace(struct tree *t, const struct move *m)
{
	if (inode_is_dir(&m->source) && is_within(t, m->to_dir.ino, m->source.ino))
		return -EINVAL;
	if (!m->has_target)
		return 0;
	if (inode_is_dir(&m->target) && is_within(t, m->from_dir.ino, m->target.ino))
		return -ENOTEMPTY;
	if (inode_is_dir(&m->source) && !inode_is_dir(&m->target))
		return -ENOTDIR;
	if (!inode_is_dir(&m->source) && inode_is_dir(&m->target))
		return -EISDIR;
	return inode_is_dir(&m->target) ? tree_dir_empty(t, m->target.ino) : 0;
}

static int check_exchange(struct tree *t, const struct move *m)
{
	if (!m->has_target)
		return -ENOENT;
	if (inode_is_dir(&m->source) && is_within(t, m->to_dir.ino, m->source.ino))
		return -EINVAL;
	if (inode_is_dir(&m->target) && is_within(t, m->from_dir.ino, m->target.ino))
		return -EINVAL;
	return 0;
}

/* The two directories' times and link counts; one effect when they are one directory. */
static void record_dirs(struct session *s, struct move *m, int from_subdirs, int to_subdirs, struct timespec now)
{
	bool one = m->from_dir.ino == m->to_dir.ino;
	unsigned int fields = INODE_MTIME | INODE_CTIME | INODE_NLINK;

	m->from_dir.mtime = m->from_dir.ctime = now;
	m->from_dir.nlink += (uint32_t)(from_subdirs + (one ? to_subdirs : 0));
	record_inode(&s->record, &m->from_dir, fields);
	if (one)
		return;
	m->to_dir.mtime = m->to_dir.ctime = now;
	m->to_dir.nlink += (uint32_t)to_subdirs;
	record_inode(&s->record, &m->to_dir, fields);
}

static void record_moved(struct session *s, struct inode *inode, uint64_t parent, struct timespec now)
{
	inode->ctime = now;
	inode->parent = parent;
	record_inode(&s->record, inode, INODE_CTIME | (inode_is_dir(inode) ? INODE_PARENT : 0));
}

static int replace(struct tree *t, struct move *m)
{
	struct session *s = t->session;
	struct timespec now = tree_now();
	int is_dir = inode_is_dir(&m->source);
	int r;

	record_start(&s->record);
	s->record.frees = m->has_target;
	record_entry(&s->record, m->from_dir.ino, m->from_name, m->from_len, 0);
	record_entry(&s->record, m->to_dir.ino, m->to_name, m->to_len, m->source.ino);
	record_moved(s, &m->source, m->to_dir.ino, now);
	if (m->has_target) {
		m->target.nlink = is_dir ? 0 : m->target.nlink - 1;
		m->target.ctime = now;
		record_inode(&s->record, &m->target, INODE_NLINK | INODE_CTIME);
	}
	record_dirs(s, m, -is_dir, m->has_target ? 0 : is_dir, now);
	r = session_apply(s);
	if (r == 0 && m->has_target)
		tree_drop_if_dead(t, m->target.ino);
	return r;
}

static int exchange(struct tree *t, struct move *m)
{
	struct session *s = t->session;
	struct timespec now = tree_now();
	int source_dir = inode_is_dir(&m->source);
	int target_dir = inode_is_dir(&m->target);

	record_start(&s->record);
	record_entry(&s->record, m->from_dir.ino, m->from_name, m->from_len, m->target.ino);
	record_entry(&s->record, m->to_dir.ino, m->to_name, m->to_len, m->source.ino);
	record_moved(s, &m->source, m->to_dir.ino, now);
	record_moved(s, &m->target, m->from_dir.ino, now);
	record_dirs(s, m, target_dir - source_dir, source_dir - target_dir, now);
	return session_apply(s);
}

int tree_rename(struct tree *t, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
                unsigned int flags)
{
	struct move m;
	int r;

	if (flags & ~(unsigned int)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	r = look(t, parent, name, new_parent, new_name, &m);
	if (r < 0)
		return r;
	if (flags & RENAME_NOREPLACE && m.has_target)
		return -EEXIST;
	if (m.has_target && m.source.ino == m.target.ino)
		return 0;
	r = flags & RENAME_EXCHANGE ? check_exchange(t, &m) : check_replace(t, &m);
	if (r < 0)
		return r;
	return flags & RENAME_EXCHANGE ? exchange(t, &m) : replace(t, &m);
}
