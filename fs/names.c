/*
 * names: owns a map from inodes to the entries that may name them, and the paths of directories.
 * Invariant: an entry counts only while the state says that it names the inode.
 * Called by diff and export.
 */
#include "names.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"

/* A layer's entry, or a base's, that names the inode unless something above it says otherwise. */
struct candidate {
	struct map_node node; /* hash: number */
	uint64_t ino, parent;
	const char *name; /* borrowed */
	size_t len;
};

struct dir_path {
	struct map_node node; /* hash: number */
	uint64_t ino;
	size_t len;
	char path[]; /* "" for the root */
};

struct names {
	const struct session *session;
	const struct stack *stack; /* the session's */
	struct map candidates, dirs;
	bool has_base_links; /* the base's inodes with several names are among the candidates */
	int r;
};

static int add(struct names *n, uint64_t ino, uint64_t parent, const char *name, size_t len)
{
	struct candidate *c;
	int r = map_reserve(&n->candidates, 1);

	c = r == 0 ? malloc(sizeof(*c)) : NULL;
	if (!c)
		return -ENOMEM;
	c->ino = ino;
	c->parent = parent;
	c->name = name;
	c->len = len;
	map_add(&n->candidates, &c->node, map_hash_u64(ino));
	return 0;
}

static void add_entry(uint64_t parent, const struct layer_entry *entry, void *arg)
{
	struct names *n = arg;

	if (entry->ino != 0 && n->r == 0)
		n->r = add(n, entry->ino, parent, entry->name, entry->len);
}

static void free_node(struct map_node *node, void *arg)
{
	free(node);
}

int names_new(const struct session *session, struct names **out)
{
	const struct stack *stack = &session->stack;
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return -ENOMEM;
	n->session = session;
	n->stack = stack;
	for (unsigned int i = 0; i < stack->n; i++)
		layer_each_entry(stack->layers[i], add_entry, n);
	if (n->r < 0) {
		names_free(n);
		return -ENOMEM;
	}
	*out = n;
	return 0;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	map_each(&n->candidates, free_node, NULL);
	map_each(&n->dirs, free_node, NULL);
	map_fini(&n->candidates);
	map_fini(&n->dirs);
	free(n);
}

int names_lookup(const struct stack *stack, uint64_t parent, const char *name, size_t len, uint64_t *ino_out)
{
	struct inode dir;
	int r = stack_inode(stack, parent, &dir);

	*ino_out = 0;
	if (r == -ESTALE || (r == 0 && (!inode_is_dir(&dir) || dir.nlink == 0)))
		return 0;
	if (r == 0)
		r = stack_find(stack, parent, name, len, ino_out);
	if (r == -ENOENT)
		*ino_out = 0;
	return r == -ENOENT ? 0 : r;
}

/* Of the base's inodes with several names the index tells only one. */
static int add_base_links(struct names *n)
{
	const struct index *ix = n->stack->base->index;
	int r = 0;

	n->has_base_links = true;
	for (uint64_t nr = 0; r == 0 && nr < index_n_entries(ix); nr++) {
		struct index_entry entry;
		struct inode inode;

		r = index_entry(ix, nr, &entry);
		if (r == 0)
			r = index_inode(ix, entry.ino, &inode);
		if (r == 0 && !inode_is_dir(&inode) && inode.nlink > 1)
			r = add(n, entry.ino, entry.parent, entry.name, entry.name_len);
	}
	return r;
}

/* The first name that the base has for it, when that is its only one there. */
static int visit_base_name(struct names *n, uint64_t ino, names_visit *visit, void *arg)
{
	const struct index *ix = n->stack->base->index;
	struct index_entry entry;
	struct inode inode;
	uint64_t nr, found;
	int r = index_inode(ix, ino, &inode);

	if (r == -ESTALE)
		return 0;
	if (r == 0 && !inode_is_dir(&inode) && inode.nlink > 1)
		return n->has_base_links ? 0 : add_base_links(n);
	if (r == 0)
		r = index_first_entry(ix, ino, &nr);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = index_entry(ix, nr, &entry);
	if (r == 0)
		r = names_lookup(n->stack, entry.parent, entry.name, entry.name_len, &found);
	return r < 0 || found != ino ? r : visit(arg, entry.parent, entry.name, entry.name_len);
}

/* By what they name, so that the same ones stand side by side. */
static int by_place(const void *a, const void *b)
{
	const struct candidate *p = *(const struct candidate *const *)a, *q = *(const struct candidate *const *)b;

	if (p->parent != q->parent)
		return p->parent < q->parent ? -1 : 1;
	if (p->len != q->len)
		return p->len < q->len ? -1 : 1;
	return memcmp(p->name, q->name, p->len);
}

/* The inode's candidates, each once, though layers may tell one twice: the list on the heap. */
static int gather(const struct names *n, uint64_t ino, const struct candidate ***list_out, size_t *n_out)
{
	const struct map_node *first = map_first(&n->candidates, map_hash_u64(ino)), *node;
	const struct candidate **list;
	size_t total = 0, kept = 0;

	for (node = first; node; node = map_next(node))
		total += ((const struct candidate *)node)->ino == ino;
	list = calloc(total + 1, sizeof(const struct candidate *));
	if (!list)
		return -ENOMEM;
	total = 0;
	for (node = first; node; node = map_next(node)) {
		const struct candidate *c = (const struct candidate *)node;

		if (c->ino == ino)
			list[total++] = c;
	}
	if (total > 1)
		qsort(list, total, sizeof(*list), by_place);
	for (size_t i = 0; i < total; i++) {
		if (kept == 0 || by_place(&list[kept - 1], &list[i]) != 0)
			list[kept++] = list[i];
	}
	*list_out = list;
	*n_out = kept;
	return 0;
}

static bool is_only_base_name(const struct names *n, const struct candidate *c)
{
	const struct index *ix = n->stack->base->index;
	struct index_entry entry;
	struct inode inode;
	uint64_t nr;

	if (index_inode(ix, c->ino, &inode) < 0 || (!inode_is_dir(&inode) && inode.nlink > 1))
		return false;
	return index_first_entry(ix, c->ino, &nr) == 0 && index_entry(ix, nr, &entry) == 0 &&
	       entry.parent == c->parent && entry.name_len == c->len && memcmp(entry.name, c->name, c->len) == 0;
}

int names_each(struct names *n, uint64_t ino, names_visit *visit, void *arg)
{
	cleanup_free const struct candidate **list = NULL;
	size_t n_list = 0;
	int r = visit_base_name(n, ino, visit, arg);

	if (r == 0)
		r = gather(n, ino, &list, &n_list);
	for (size_t i = 0; r == 0 && i < n_list; i++) {
		const struct candidate *c = list[i];
		uint64_t found;

		if (is_only_base_name(n, c))
			continue;
		r = names_lookup(n->stack, c->parent, c->name, c->len, &found);
		if (r == 0 && found == ino)
			r = visit(arg, c->parent, c->name, c->len);
	}
	return r;
}

static const struct dir_path *find_dir(const struct names *n, uint64_t ino)
{
	const struct map_node *node = map_first(&n->dirs, map_hash_u64(ino));

	while (node && ((const struct dir_path *)node)->ino != ino)
		node = map_next(node);
	return (const struct dir_path *)node;
}

static int keep_dir(struct names *n, uint64_t ino, const char *above, const char *name, size_t len,
                    const struct dir_path **out)
{
	size_t above_len = strlen(above);
	struct dir_path *d = malloc(sizeof(*d) + above_len + len + 2);

	if (!d || map_reserve(&n->dirs, 1) < 0) {
		free(d);
		return -ENOMEM;
	}
	d->ino = ino;
	memcpy(d->path, above, above_len);
	d->len = above_len;
	if (len > 0) {
		d->path[d->len++] = '/';
		memcpy(d->path + d->len, name, len);
		d->len += len;
	}
	d->path[d->len] = '\0';
	map_add(&n->dirs, &d->node, map_hash_u64(ino));
	*out = d;
	return 0;
}

/* One step up from a directory. */
struct step {
	uint64_t ino, parent;
	const char *name;
	size_t len;
};

static int take_step(void *arg, uint64_t parent, const char *name, size_t len)
{
	struct step *step = arg;

	step->parent = parent;
	step->name = name;
	step->len = len;
	return 1;
}

/* A directory to which no path leads. */
static int lost(const struct names *n, uint64_t ino, const char *why)
{
	return log_error(&n->session->log, -EUCLEAN, "%s: damaged: run `umlfs check`: directory %" PRIu64 " %s",
	                 n->session->label, ino, why);
}

static int add_step(struct names *n, uint64_t ino, struct step **steps, size_t depth)
{
	struct step *step;
	int r;

	if ((depth & (depth - 1)) == 0) {
		struct step *grown = reallocarray(*steps, depth ? 2 * depth : 1, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		*steps = grown;
	}
	step = &(*steps)[depth];
	step->ino = ino;
	r = names_each(n, ino, take_step, step);
	return r == 0 ? lost(n, ino, "has no name") : r;
}

/* Goes up to a directory whose path is known, then down again: no recursion, because a tree may be deep. */
static int dir_path(struct names *n, uint64_t ino, const struct dir_path **out)
{
	cleanup_free struct step *steps = NULL;
	const struct dir_path *known;
	uint64_t mark = ino;
	size_t depth = 0;
	int r = 0;

	while (!(known = find_dir(n, ino)) && ino != FORMAT_ROOT_INO) {
		r = add_step(n, ino, &steps, depth);
		if (r < 0)
			return r;
		ino = steps[depth++].parent;
		if (ino == mark)
			return lost(n, ino, "lies in itself");
		if ((depth & (depth - 1)) == 0) /* farther apart each time: a mark comes to lie in the circle */
			mark = ino;
	}
	r = known ? 0 : keep_dir(n, FORMAT_ROOT_INO, "", "", 0, &known);
	while (r == 0 && depth-- > 0)
		r = keep_dir(n, steps[depth].ino, known->path, steps[depth].name, steps[depth].len, &known);
	if (r == 0)
		*out = known;
	return r;
}

int names_path(struct names *n, uint64_t parent, const char *name, size_t len, char **out)
{
	const struct dir_path *dir = NULL; /* gcc does not see that it is set */
	char *path;
	int r = dir_path(n, parent, &dir);

	if (r < 0)
		return r;
	path = malloc(dir->len + len + 2);
	if (!path)
		return -ENOMEM;
	memcpy(path, dir->path, dir->len);
	if (len > 0 || dir->len == 0)
		path[dir->len] = '/';
	memcpy(path + dir->len + 1, name, len);
	path[dir->len + (len > 0 || dir->len == 0) + len] = '\0';
	*out = path;
	return 0;
}

struct list {
	struct names *names;
	char **paths;
	size_t n;
};

static int add_path(void *arg, uint64_t parent, const char *name, size_t len)
{
	struct list *list = arg;
	char **grown = list->paths;
	int r;

	if ((list->n & (list->n - 1)) == 0) /* full: there is room for a power of two */
		grown = reallocarray(list->paths, list->n ? 2 * list->n : 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	list->paths = grown;
	r = names_path(list->names, parent, name, len, &grown[list->n]);
	list->n += r == 0;
	return r;
}

static int compare_paths(const void *a, const void *b)
{
	return names_order(*(const char *const *)a, *(const char *const *)b);
}

int names_paths(struct names *n, uint64_t ino, char ***list_out, size_t *n_out)
{
	struct list list = {.names = n};
	int r = ino == FORMAT_ROOT_INO ? add_path(&list, ino, "", 0) : names_each(n, ino, add_path, &list);

	if (r < 0) {
		names_free_paths(list.paths, list.n);
		return r;
	}
	if (list.n > 1)
		qsort(list.paths, list.n, sizeof(*list.paths), compare_paths);
	*list_out = list.paths;
	*n_out = list.n;
	return 0;
}

void names_free_paths(char **list, size_t n)
{
	while (n > 0)
		free(list[--n]);
	free(list);
}

int names_order(const char *a, const char *b)
{
	const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;

	while (*p && *p == *q) {
		p++;
		q++;
	}
	if (*p == *q || !*p || !*q)
		return *p - *q;
	return *p == '/' ? -1 : *q == '/' ? 1 : *p - *q;
}
