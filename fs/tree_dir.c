/*
 * tree_dir: lists directories.
 * Invariant: every name comes once, and a walk that is resumed by cookie misses no name that was there all the time.
 * Called by the front end, and by tree for its own checks.
 */
#include "tree.h"

#include <errno.h>

enum { COOKIE_DOT = 1, COOKIE_DOT_DOT = 2 };

static int visit_dots(const struct inode *dir, uint64_t cookie, tree_visit *visit, void *arg)
{
	struct stack_entry dot = {.ino = dir->ino, .cookie = COOKIE_DOT, .name = ".", .name_len = 1};
	struct stack_entry dot_dot = {.ino = dir->parent, .cookie = COOKIE_DOT_DOT, .name = "..", .name_len = 2};
	int r = 0;

	if (cookie < COOKIE_DOT)
		r = visit(arg, &dot);
	if (r == 0 && cookie < COOKIE_DOT_DOT)
		r = visit(arg, &dot_dot);
	return r;
}

int tree_readdir(struct tree *t, uint64_t ino, uint64_t cookie, tree_visit *visit, void *arg)
{
	struct stack_entry entry;
	struct stack_walk walk;
	struct inode dir;
	int r = stack_inode(&t->session->stack, ino, &dir);

	if (r < 0)
		return r;
	if (!inode_is_dir(&dir))
		return -ENOTDIR;
	if (dir.nlink == 0)
		return 0;
	r = visit_dots(&dir, cookie, visit, arg);
	if (r != 0)
		return r < 0 ? r : 0;
	r = stack_walk_start(&t->session->stack, ino, cookie, &walk);
	while (r == 0) {
		r = stack_walk_next(&walk, &entry);
		if (r <= 0)
			return r;
		r = visit(arg, &entry);
	}
	return r < 0 ? r : 0;
}

int tree_dir_empty(struct tree *t, uint64_t ino)
{
	struct stack_entry entry;
	struct stack_walk walk;
	int r = stack_walk_start(&t->session->stack, ino, 0, &walk);

	if (r == 0)
		r = stack_walk_next(&walk, &entry);
	return r > 0 ? -ENOTEMPTY : r;
}
