/*
 * diff: owns the two states, and describes each change.
 * Invariant: what is told is what a walk of both trees would find.
 * Called by the program.
 */
#include "umlfs/diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "diff_match.h"

/* A file and the memory that its description borrows from. */
struct described {
	struct diff_file file;
	char *target, *xattr_names;
	struct diff_xattr *xattrs;
};

static void free_described(struct described *d)
{
	free(d->target);
	free(d->xattr_names);
	free(d->xattrs);
}

static int describe_xattrs(const struct stack *stack, struct described *d)
{
	struct xattr_set set;
	const char *name;
	ssize_t len;
	int r = stack_xattrs(stack, d->file.ino, &set);

	len = r < 0 ? r : xattr_set_list(set, NULL, 0);
	if (len <= 0)
		return (int)len;
	d->xattr_names = malloc((size_t)len);
	d->xattrs = calloc((size_t)len, sizeof(*d->xattrs)); /* each name has a byte at least */
	if (!d->xattr_names || !d->xattrs)
		return -ENOMEM;
	xattr_set_list(set, d->xattr_names, (size_t)len);
	for (name = d->xattr_names; name < d->xattr_names + len; name += strlen(name) + 1) {
		struct diff_xattr *x = &d->xattrs[d->file.n_xattrs++];

		x->name = name;
		x->len = (size_t)xattr_set_get(set, name, &x->value);
	}
	d->file.xattrs = d->xattrs;
	return 0;
}

/* ino 0: there is no such file. */
static int describe(const struct state *state, uint64_t ino, struct described *d, const struct diff_file **out)
{
	const struct stack *stack = &state->session.stack;
	const char *target;
	struct inode i;
	size_t len;
	int r = ino ? stack_inode(stack, ino, &i) : 0;

	*out = ino ? &d->file : NULL;
	if (r < 0 || !ino)
		return r;
	d->file = (struct diff_file){.ino = ino, .mode = i.mode, .uid = i.uid, .gid = i.gid, .nlink = i.nlink};
	d->file.size = inode_is_dir(&i) ? 0 : i.size;
	d->file.rdev = i.rdev;
	d->file.mtime = i.mtime;
	if (S_ISLNK(i.mode)) {
		r = stack_target(stack, ino, &target, &len);
		d->target = r == 0 ? strndup(target, len) : NULL;
		d->file.target = d->target;
		if (!d->target)
			return r < 0 ? r : -ENOMEM;
	}
	return describe_xattrs(stack, d);
}

/* Asked for once: a file may have as many names as there are changes. */
static int find_first(struct diff_set *set, struct diff_node *node)
{
	char **paths;
	size_t n;
	int r = names_paths(set->to_names, node->ino, &paths, &n);

	if (r < 0)
		return r;
	if (n > 0)
		node->first_b = take_ptr(&paths[0]);
	names_free_paths(paths, n);
	return 0;
}

/* The first name of an inode that has several, unless it is this one; borrowed from the set. */
static int first_name(struct diff_set *set, const struct diff_item *item, const struct diff_file *to, const char **out)
{
	struct diff_node *node;
	int r = 0;

	if (item->kind != DIFF_ADDED || S_ISDIR(to->mode) || to->nlink < 2)
		return 0;
	node = diff_set_node(set, item->b); /* a name that came is told of an inode of the set */
	if (!node->first_b)
		r = find_first(set, node);
	if (r == 0 && node->first_b && strcmp(node->first_b, item->path) != 0)
		*out = node->first_b;
	return r;
}

static int tell(const struct diff_options *o, struct diff_set *set, const struct diff_item *item)
{
	struct diff_change change = {
		.kind = item->kind, .what = item->what, .path = item->path, .old_path = item->old_path};
	struct described from = {0}, to = {0};
	int r = describe(set->from, item->a, &from, &change.from);

	if (r == 0)
		r = describe(set->to, item->b, &to, &change.to);
	if (r == 0)
		r = first_name(set, item, change.to, &change.link_to);
	if (r == 0)
		r = o->change(o->arg, &change);
	free_described(&from);
	free_described(&to);
	return r;
}

static int compare(const struct diff_options *o, struct state *from, struct state *to)
{
	struct diff_list list = {0};
	struct diff_set set;
	int r = diff_set_init(&set, from, to);

	if (r == 0) {
		r = diff_match(&set, o->times, &list);
		for (size_t i = 0; r == 0 && i < list.n; i++)
			r = tell(o, &set, &list.items[i]);
		diff_set_fini(&set);
	}
	diff_list_fini(&list);
	return r;
}

int diff_run(const struct diff_options *options)
{
	struct state *from, *to;
	struct states *states;
	int r = states_open(options->session, options->log, &states, NULL);

	if (r < 0)
		return r;
	r = states_load(states, options->from ? options->from : states_standing(states), &from);
	if (r == 0)
		r = states_load(states, options->to, &to);
	if (r == 0)
		r = compare(options, from, to);
	if (r < 0)
		r = states_failed(states, r);
	states_free(states);
	return r;
}
