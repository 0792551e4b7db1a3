/*
 * diff_match: owns the list of changes while it grows.
 * Invariant: each name that went is told once, and each that came.
 * Called by diff and export.
 */
#include "diff_match.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "diff_compare.h"
#include "format.h"

struct match {
	struct diff_set *set;
	bool times;
	struct diff_list *list;
	struct diff_slot **gone; /* slots whose earlier meaning is not told, shallow ones first */
	size_t n_gone;
	int r;
};

static int add(struct match *m, struct diff_item item)
{
	struct diff_list *l = m->list;

	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		struct diff_item *grown = reallocarray(l->items, cap, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		l->items = grown;
		l->cap = cap;
	}
	item.path = item.path ? strdup(item.path) : NULL;
	item.old_path = item.old_path ? strdup(item.old_path) : NULL;
	l->items[l->n++] = item;
	return item.path ? 0 : -ENOMEM;
}

/* In what a node differs that both states have. */
static int compare_node(const struct match *m, const struct diff_node *node)
{
	return diff_compare(m->set->from, &node->a, m->set->to, &node->b, m->times);
}

static int by_path_a(const void *a, const void *b)
{
	return names_order((*(const struct diff_slot *const *)a)->path_a,
	                   (*(const struct diff_slot *const *)b)->path_a);
}

static int by_path_b(const void *a, const void *b)
{
	return names_order((*(const struct diff_slot *const *)a)->path_b,
	                   (*(const struct diff_slot *const *)b)->path_b);
}

/* The slots of one inode in the order of their paths: the list on the heap. */
static int sorted(struct diff_slot *first, bool is_a, struct diff_slot ***out, size_t *n_out)
{
	struct diff_slot **list;
	size_t n = 0;

	for (struct diff_slot *s = first; s; s = is_a ? s->next_a : s->next_b)
		n++;
	list = calloc(n + 1, sizeof(struct diff_slot *));
	if (!list)
		return -ENOMEM;
	n = 0;
	for (struct diff_slot *s = first; s; s = is_a ? s->next_a : s->next_b)
		list[n++] = s;
	qsort(list, n, sizeof(*list), is_a ? by_path_a : by_path_b);
	*out = list;
	*n_out = n;
	return 0;
}

/* Names that an inode lost and names that it got, as many as there are of both. */
static int match_renames(struct match *m, const struct diff_node *node)
{
	struct diff_slot **gone = NULL, **come = NULL;
	size_t n_gone = 0, n_come = 0;
	int what;
	int r = sorted(node->gone, true, &gone, &n_gone);

	if (r == 0)
		r = sorted(node->come, false, &come, &n_come);
	what = r == 0 ? compare_node(m, node) : r;
	r = what < 0 ? what : 0;
	for (size_t i = 0; r == 0 && i < n_gone && i < n_come; i++) {
		gone[i]->told_a = come[i]->told_b = true;
		r = add(m, (struct diff_item){DIFF_RENAMED, (unsigned int)what, node->ino, node->ino, come[i]->path_b,
		                              gone[i]->path_a});
	}
	free(gone);
	free(come);
	return r;
}

static void rename_node(struct map_node *node, void *arg)
{
	const struct diff_node *n = (const struct diff_node *)node;
	struct match *m = arg;

	if (m->r == 0 && n->in_a && n->in_b && n->gone && n->come)
		m->r = match_renames(m, n);
}

/* The earlier path of a file that has `path` now, when it is another: a directory above was renamed. */
static int earlier_path(const struct match *m, uint64_t parent, const char *name, size_t len, const char *path,
                        char **out)
{
	char *old;
	int r = names_path(m->set->from_names, parent, name, len, &old);

	if (r < 0)
		return r;
	if (strcmp(old, path) == 0) {
		free(old);
		old = NULL;
	}
	*out = old;
	return 0;
}

/* Tells that an inode changed under a name that it had before. */
struct modified {
	struct match *m;
	uint64_t ino;
	unsigned int what;
};

static int modify_name(void *arg, uint64_t parent, const char *name, size_t len)
{
	const struct modified *c = arg;
	struct diff_set *set = c->m->set;
	char *path = NULL, *old = NULL;
	uint64_t before = c->ino;
	int r = len ? names_lookup(&set->from->session.stack, parent, name, len, &before) : 0;

	if (r < 0 || before != c->ino)
		return r; /* the name is new: a rename, or a link */
	r = names_path(set->to_names, parent, name, len, &path);
	if (r == 0)
		r = earlier_path(c->m, parent, name, len, path, &old);
	if (r == 0)
		r = add(c->m, (struct diff_item){DIFF_MODIFIED, c->what, c->ino, c->ino, path, old});
	free(path);
	free(old);
	return r;
}

static void modify_node(struct map_node *node, void *arg)
{
	const struct diff_node *n = (const struct diff_node *)node;
	struct match *m = arg;
	struct modified c = {.m = m, .ino = n->ino};
	int what;

	if (m->r < 0 || !n->in_a || !n->in_b)
		return;
	what = compare_node(m, n);
	c.what = (unsigned int)what;
	if (what < 0)
		m->r = what;
	else if (what > 0 && n->ino == FORMAT_ROOT_INO)
		m->r = modify_name(&c, n->ino, "", 0);
	else if (what > 0)
		m->r = names_each(m->set->to_names, n->ino, modify_name, &c);
}

static void count_gone(struct map_node *node, void *arg)
{
	const struct diff_slot *slot = (const struct diff_slot *)node;

	((struct match *)arg)->n_gone += slot->a && !slot->told_a;
}

static void gather_gone(struct map_node *node, void *arg)
{
	struct diff_slot *slot = (struct diff_slot *)node;
	struct match *m = arg;

	if (slot->a && !slot->told_a)
		m->gone[m->n_gone++] = slot;
}

/* What came into this place. */
static struct diff_slot *find_come(const struct match *m, uint64_t parent, const struct diff_slot *like)
{
	struct map_node *node = map_first(&m->set->slots, checksum64(like->name, like->len, parent));

	for (; node; node = map_next(node)) {
		struct diff_slot *slot = (struct diff_slot *)node;

		if (slot->parent == parent && slot->len == like->len && slot->b && !slot->told_b &&
		    memcmp(slot->name, like->name, like->len) == 0)
			return slot;
	}
	return NULL;
}

/* Another inode stands in the place of one. */
static int replace(struct match *m, struct diff_slot *gone, struct diff_slot *come)
{
	struct diff_node *a = diff_set_node(m->set, gone->a), *b = diff_set_node(m->set, come->b);
	const char *old = strcmp(gone->path_a, come->path_b) == 0 ? NULL : gone->path_a;
	int what = diff_compare(m->set->from, &a->a, m->set->to, &b->b, m->times);
	bool dirs = inode_is_dir(&a->a) && inode_is_dir(&b->b);

	gone->told_a = come->told_b = true;
	if (what < 0)
		return what;
	if (dirs && !a->in_b)
		a->heir = b->ino;
	if (!dirs && (a->a.nlink > 1 || b->b.nlink > 1))
		what |= DIFF_LINKS;
	if (what == 0)
		return 0;
	return add(m, (struct diff_item){DIFF_MODIFIED, (unsigned int)what, a->ino, b->ino, come->path_b,
	                                 (char *)(uintptr_t)old});
}

/* Parents come before children in this order, so that a directory's heir is known when its names are matched. */
static int match_gone(struct match *m)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n_gone; i++) {
		struct diff_slot *slot = m->gone[i];
		const struct diff_node *parent = diff_set_node(m->set, slot->parent);
		struct diff_slot *come = find_come(m, parent && parent->heir ? parent->heir : slot->parent, slot);

		if (come)
			r = replace(m, slot, come);
		else
			r = add(m, (struct diff_item){DIFF_DELETED, 0, slot->a, 0, slot->path_a, NULL});
	}
	return r;
}

static void add_come(struct map_node *node, void *arg)
{
	const struct diff_slot *slot = (const struct diff_slot *)node;
	struct match *m = arg;

	if (m->r == 0 && slot->b && !slot->told_b)
		m->r = add(m, (struct diff_item){DIFF_ADDED, 0, 0, slot->b, slot->path_b, NULL});
}

/* By path; where a name was taken over, what went comes first. */
static int by_path(const void *a, const void *b)
{
	const struct diff_item *p = a, *q = b;
	int order = names_order(p->path, q->path);

	return order ? order : (q->kind == DIFF_DELETED) - (p->kind == DIFF_DELETED);
}

int diff_match(struct diff_set *set, bool times, struct diff_list *out)
{
	struct diff_list list = {0};
	struct match m = {.set = set, .times = times, .list = &list};

	map_each(&set->nodes, rename_node, &m);
	map_each(&set->nodes, modify_node, &m);
	map_each(&set->slots, count_gone, &m);
	m.gone = calloc(m.n_gone + 1, sizeof(struct diff_slot *));
	m.n_gone = 0;
	if (!m.gone && m.r == 0)
		m.r = -ENOMEM;
	if (m.r == 0) {
		map_each(&set->slots, gather_gone, &m);
		qsort(m.gone, m.n_gone, sizeof(*m.gone), by_path_a);
		m.r = match_gone(&m);
	}
	map_each(&set->slots, add_come, &m);
	free(m.gone);
	if (m.r < 0) {
		diff_list_fini(&list);
		return m.r;
	}
	if (list.n > 1)
		qsort(list.items, list.n, sizeof(*list.items), by_path);
	*out = list;
	return 0;
}

void diff_list_fini(struct diff_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free(list->items[i].path);
		free(list->items[i].old_path);
	}
	free(list->items);
	*list = (struct diff_list){0};
}
