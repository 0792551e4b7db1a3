/*
 * check_tree: owns what a walk over one state has seen, and judges it.
 * Invariant: every inode is seen once, so the walk ends whatever the entries say.
 * Called by check_session.
 */
#include "check_tree.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"

struct seen {
	struct map_node node; /* hash: number */
	uint64_t ino, parent; /* parent and name: where it was seen first */
	uint32_t names, subdirs;
	bool reached; /* from the root; else from an inode without a name */
	bool walked;
	uint8_t name_len;
	char name[];
};

struct check_tree {
	const struct stack *stack;
	const char *state;
	bool mendable;
	struct findings *findings;
	struct map map;
	struct seen **list; /* in the order in which they were seen */
	size_t n;
	uint64_t *numbers; /* of every inode and directory that any layer knows, by growing number */
	size_t n_numbers;
};

static struct seen *find(const struct check_tree *t, uint64_t ino)
{
	struct map_node *node = map_first(&t->map, map_hash_u64(ino));

	while (node && ((struct seen *)node)->ino != ino)
		node = map_next(node);
	return (struct seen *)node;
}

static struct seen *add(struct check_tree *t, uint64_t ino, uint64_t parent, const char *name, size_t len)
{
	struct seen *s;

	if ((t->n & (t->n + 1)) == 0) {
		struct seen **grown = reallocarray(t->list, t->n * 2 + 2, sizeof(*grown));

		if (!grown)
			return NULL;
		t->list = grown;
	}
	s = calloc(1, sizeof(*s) + len);
	if (!s || map_reserve(&t->map, 1) < 0) {
		free(s);
		return NULL;
	}
	s->ino = ino;
	s->parent = parent;
	s->name_len = (uint8_t)len;
	memcpy(s->name, name, len);
	map_add(&t->map, &s->node, map_hash_u64(ino));
	t->list[t->n++] = s;
	return s;
}

/* Bytes of the path of s; 0 for what has none that ends at the root. */
static size_t path_length(const struct check_tree *t, const struct seen *s)
{
	size_t len = 0;

	for (size_t depth = 0; s && s->ino != FORMAT_ROOT_INO; depth++) {
		if (!s->reached || s->name_len == 0 || depth > t->n)
			return 0;
		len += s->name_len + 1u;
		s = find(t, s->parent);
	}
	return len;
}

char *check_tree_path(const struct check_tree *t, uint64_t ino)
{
	const struct seen *s = find(t, ino);
	size_t len = path_length(t, s);
	char *path;

	if (!s || (len == 0 && ino != FORMAT_ROOT_INO))
		return NULL;
	if (len == 0)
		return strdup("/");
	path = malloc(len + 1);
	if (!path)
		return NULL;
	path[len] = '\0';
	for (; s->ino != FORMAT_ROOT_INO; s = find(t, s->parent)) {
		len -= s->name_len;
		memcpy(path + len, s->name, s->name_len);
		path[--len] = '/';
	}
	return path;
}

static char *place(const struct check_tree *t, uint64_t ino)
{
	cleanup_free char *path = check_tree_path(t, ino);

	return findings_where("%s: %s%sinode %" PRIu64, t->state, path ? path : "", path ? ", " : "", ino);
}

/* A name in a directory. */
static char *place_of_name(const struct check_tree *t, uint64_t dir, const struct stack_entry *e)
{
	cleanup_free char *path = check_tree_path(t, dir);

	return findings_where("%s: %s%s%.*s", t->state, path ? path : "(no path)",
	                      path && strcmp(path, "/") == 0 ? "" : "/", (int)e->name_len, e->name);
}

/* A finding that a record can mend, when the state is one that records can reach. */
static void mend_by(const struct check_tree *t, struct found *found, enum mend mend, uint64_t ino, uint64_t number)
{
	if (!t->mendable)
		return;
	found_mend(found, mend);
	found->ino = ino;
	found->number = number;
}

static void note_nowhere(struct check_tree *t, uint64_t dir, const struct stack_entry *e)
{
	struct found *found =
		findings_add(t->findings, "entry", place_of_name(t, dir, e),
	                     "names inode %" PRIu64 ", which is nowhere: using it gives an error", e->ino);

	mend_by(t, found, MEND_ENTRY, dir, 0);
	found->name = strndup(e->name, e->name_len);
}

static void note_parent(struct check_tree *t, uint64_t dir, const struct inode *inode)
{
	struct found *found =
		findings_add(t->findings, "directory", place(t, inode->ino),
	                     "its \"..\" is inode %" PRIu64 ", and it lies in %" PRIu64, inode->parent, dir);

	mend_by(t, found, MEND_PARENT, inode->ino, dir);
}

static int see(struct check_tree *t, struct seen *dir, const struct stack_entry *e)
{
	struct seen *s = find(t, e->ino);
	struct inode inode;
	int r = stack_inode(t->stack, e->ino, &inode);

	if (r == -ESTALE) {
		note_nowhere(t, dir->ino, e);
		return 0;
	}
	if (r < 0)
		return r;
	if (!s)
		s = add(t, e->ino, dir->ino, e->name, e->name_len);
	if (!s)
		return -ENOMEM;
	s->reached = s->reached || dir->reached;
	s->names++;
	if (!inode_is_dir(&inode))
		return 0;
	dir->subdirs++;
	if (s->names > 1 || e->ino == FORMAT_ROOT_INO)
		findings_add(t->findings, "directory", place_of_name(t, dir->ino, e),
		             "is one more name of directory %" PRIu64 ", which may have one", e->ino);
	return 0;
}

static int walk_dir(struct check_tree *t, struct seen *dir)
{
	struct stack_entry entry;
	struct stack_walk walk;
	int r = stack_walk_start(t->stack, dir->ino, 0, &walk);

	dir->walked = true;
	while (r == 0 && (r = stack_walk_next(&walk, &entry)) > 0)
		r = see(t, dir, &entry);
	return r;
}

/* Walks every directory seen from number `from` of the list on. */
static int walk_from(struct check_tree *t, size_t from)
{
	struct inode inode;
	int r = 0;

	for (size_t i = from; r == 0 && i < t->n; i++) {
		r = stack_inode(t->stack, t->list[i]->ino, &inode);
		if (r == 0 && inode_is_dir(&inode) && !t->list[i]->walked)
			r = walk_dir(t, t->list[i]);
	}
	return r;
}

static bool is_kind(uint32_t mode)
{
	return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) || S_ISFIFO(mode) ||
	       S_ISSOCK(mode);
}

/* What a reached inode says of itself against what was seen. */
static void judge(struct check_tree *t, const struct seen *s)
{
	uint32_t links = s->names;
	struct inode inode;
	const char *target;
	struct found *found;
	size_t len;

	if (stack_inode(t->stack, s->ino, &inode) < 0)
		return;
	if (inode_is_dir(&inode))
		links = 2 + s->subdirs;
	if (!is_kind(inode.mode))
		findings_add(t->findings, "inode", place(t, s->ino), "is of no type (mode 0%o)", inode.mode);
	if (S_ISLNK(inode.mode) && stack_target(t->stack, s->ino, &target, &len) < 0)
		findings_add(t->findings, "inode", place(t, s->ino), "a symbolic link without a target");
	if (inode_is_dir(&inode) && s->names == 1 && inode.parent != s->parent)
		note_parent(t, s->parent, &inode); /* of several names, nobody can say which is right */
	if (inode.nlink == links)
		return;
	found = findings_add(t->findings, "links", place(t, s->ino), "says that it has %u links, and has %u",
	                     inode.nlink, links);
	mend_by(t, found, MEND_LINKS, s->ino, links);
}

static int remember(struct check_tree *t, uint64_t ino)
{
	if ((t->n_numbers & (t->n_numbers + 1)) == 0) {
		uint64_t *grown = reallocarray(t->numbers, t->n_numbers * 2 + 2, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		t->numbers = grown;
	}
	t->numbers[t->n_numbers++] = ino;
	return 0;
}

/* Gathers what the walk did not see. */
struct gather {
	struct check_tree *tree;
	int result;
};

static void gather(struct gather *g, uint64_t ino)
{
	if (g->result == 0 && !find(g->tree, ino))
		g->result = remember(g->tree, ino);
}

static void gather_inode(struct map_node *node, void *arg)
{
	gather(arg, ((const struct layer_inode *)node)->attr.ino);
}

static void gather_dir(struct map_node *node, void *arg)
{
	gather(arg, ((const struct layer_dir *)node)->ino);
}

int check_tree_by_number(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a;
	uint64_t other = *(const uint64_t *)b;

	return (one > other) - (one < other);
}

static int gather_unseen(struct check_tree *t)
{
	struct gather g = {.tree = t};
	size_t n = 0;

	for (uint64_t ino = 1; ino <= index_n_inodes(t->stack->base->index); ino++)
		gather(&g, ino);
	for (unsigned int i = 0; i < t->stack->n; i++) {
		layer_each_inode(t->stack->layers[i], gather_inode, &g);
		layer_each_dir(t->stack->layers[i], gather_dir, &g);
	}
	if (t->n_numbers > 0)
		qsort(t->numbers, t->n_numbers, sizeof(*t->numbers), check_tree_by_number);
	for (size_t i = 0; i < t->n_numbers; i++) {
		if (i == 0 || t->numbers[i] != t->numbers[n - 1])
			t->numbers[n++] = t->numbers[i];
	}
	t->n_numbers = n;
	return g.result;
}

/* 1 when the state shows a name in this directory (of which nothing else need be true), 0, -EUCLEAN. */
static int has_names(const struct check_tree *t, uint64_t ino)
{
	struct stack_entry entry;
	struct stack_walk walk;
	int r = stack_walk_start(t->stack, ino, 0, &walk);

	return r < 0 ? r : stack_walk_next(&walk, &entry);
}

/* True for a directory that says it has links. */
static bool lives_as_dir(const struct check_tree *t, uint64_t ino)
{
	struct inode inode;

	return stack_inode(t->stack, ino, &inode) == 0 && inode_is_dir(&inode) && inode.nlink > 0;
}

/* Marks what has a name in a directory that no path leads to, so that only the directory is told. */
static int mark_inner(struct check_tree *t, bool *marks)
{
	for (size_t i = 0; i < t->n_numbers; i++) {
		struct stack_entry entry;
		struct stack_walk walk;
		int r;

		if (!lives_as_dir(t, t->numbers[i]))
			continue;
		r = stack_walk_start(t->stack, t->numbers[i], 0, &walk);
		while (r == 0 && (r = stack_walk_next(&walk, &entry)) > 0) {
			uint64_t *inner = bsearch(&entry.ino, t->numbers, t->n_numbers, sizeof(*t->numbers),
			                          check_tree_by_number);

			if (inner)
				marks[inner - t->numbers] = true;
			r = 0;
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int tell_orphan(struct check_tree *t, uint64_t ino)
{
	struct inode inode;
	struct found *found;
	int names = has_names(t, ino);
	int r = stack_inode(t->stack, ino, &inode);

	if (r < 0 || names < 0)
		return r < 0 ? r : names;
	if (inode_is_dir(&inode) && names) {
		findings_add(t->findings, "orphan", place(t, ino),
		             "a directory with names in it, to which no path leads: they cannot be reached");
		return 0;
	}
	found = findings_add(t->findings, "orphan", place(t, ino), "says that it has %u links, and no name is its",
	                     inode.nlink);
	mend_by(t, found, MEND_LINKS, ino, 0);
	return 0;
}

/* Inodes that the walk did not see: fine when they say that they are gone. */
static int judge_unseen(struct check_tree *t)
{
	cleanup_free bool *marks = calloc(t->n_numbers + 1, sizeof(*marks));
	size_t from = t->n;
	int r = marks ? mark_inner(t, marks) : -ENOMEM;

	for (size_t i = 0; r == 0 && i < t->n_numbers; i++) {
		uint64_t ino = t->numbers[i];
		struct inode inode;
		bool there = stack_inode(t->stack, ino, &inode) == 0 && inode.nlink > 0;

		if (there && !marks[i])
			r = tell_orphan(t, ino);
		if (r == 0 && there && !marks[i] && inode_is_dir(&inode) && !add(t, ino, 0, "", 0))
			r = -ENOMEM;
		if (r == 0 && !lives_as_dir(t, ino) && has_names(t, ino) > 0)
			findings_add(t->findings, "entry", place(t, ino),
			             "is no directory, or a removed one, and there are names in it");
	}
	if (r == 0)
		r = walk_from(t, from);
	for (size_t i = 0; r == 0 && i < t->n_numbers; i++) {
		if (lives_as_dir(t, t->numbers[i]) && !find(t, t->numbers[i]))
			findings_add(t->findings, "directory", place(t, t->numbers[i]),
			             "lies in a circle of directories: no path leads to it");
	}
	return r;
}

/* Files that were seen, yet have names in them. */
static int judge_seen(struct check_tree *t, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int r = t->list[i]->walked ? 0 : has_names(t, t->list[i]->ino);

		if (r < 0)
			return r;
		if (r > 0)
			findings_add(t->findings, "entry", place(t, t->list[i]->ino),
			             "is no directory, and there are names in it");
		judge(t, t->list[i]);
	}
	return 0;
}

static int run(struct check_tree *t)
{
	struct seen *root = add(t, FORMAT_ROOT_INO, FORMAT_ROOT_INO, "", 0);
	int r;

	if (!root)
		return -ENOMEM;
	root->reached = true;
	r = walk_from(t, 0);
	if (r == 0)
		r = judge_seen(t, t->n);
	if (r == 0)
		r = gather_unseen(t);
	return r < 0 ? r : judge_unseen(t);
}

int check_tree(const struct stack *stack, const char *state, bool mendable, struct findings *findings,
               struct check_tree **out)
{
	struct check_tree *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	*t = (struct check_tree){.stack = stack, .state = state, .mendable = mendable, .findings = findings};
	r = run(t);
	if (r < 0) {
		check_tree_free(t);
		return r;
	}
	*out = t;
	return 0;
}

void check_tree_free(struct check_tree *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->n; i++)
		free(t->list[i]);
	map_fini(&t->map);
	free(t->list);
	free(t->numbers);
	free(t);
}
