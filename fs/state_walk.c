/*
 * state_walk: owns the names that are still to be visited, the first names of inodes that have several, and the numbers of
 * the directories that were entered.
 * Invariant: the same state is walked in the same order; depth costs no stack; no directory is entered twice, so that the
 * walk ends whatever the entries say.
 * Called by export and base_commit.
 */
#include "state_walk.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format.h"

struct first {
	struct map_node node; /* hash: number */
	uint64_t ino;
	char path[];
};

struct entered {
	struct map_node node; /* hash: number */
	uint64_t ino;
};

struct pending {
	struct pending *next;
	uint64_t ino;
	char path[];
};

static void free_node(struct map_node *node, void *arg)
{
	free(node);
}

void state_walk_fini(struct state_walk *w)
{
	map_each(&w->firsts, free_node, NULL);
	map_each(&w->entered, free_node, NULL);
	map_fini(&w->firsts);
	map_fini(&w->entered);
}

/* The path of an earlier visit; NULL, and this path is kept, when there was none. */
static int first_of(struct state_walk *w, uint64_t ino, const char *path, const char **out)
{
	struct map_node *node = map_first(&w->firsts, map_hash_u64(ino));
	struct first *first;
	size_t len = strlen(path) + 1;

	while (node && ((struct first *)node)->ino != ino)
		node = map_next(node);
	*out = node ? ((struct first *)node)->path : NULL;
	if (node)
		return 0;
	first = map_reserve(&w->firsts, 1) == 0 ? malloc(sizeof(*first) + len) : NULL;
	if (!first)
		return -ENOMEM;
	first->ino = ino;
	memcpy(first->path, path, len);
	map_add(&w->firsts, &first->node, map_hash_u64(ino));
	return 0;
}

static int visit(struct state_walk *w, const char *path, uint64_t ino, bool *is_dir_out)
{
	const char *first = NULL;
	struct inode inode;
	int r = stack_inode(&w->state->session.stack, ino, &inode);

	if (r < 0)
		return r == -ESTALE ? -EUCLEAN : r;
	*is_dir_out = inode_is_dir(&inode);
	if (!*is_dir_out && inode.nlink > 1)
		r = first_of(w, ino, path, &first);
	return r < 0 ? r : w->visit(w->arg, path, &inode, first);
}

int state_walk_one(struct state_walk *w, const char *path, uint64_t ino)
{
	bool is_dir;

	return visit(w, path, ino, &is_dir);
}

static int by_name(const void *a, const void *b)
{
	const struct pending *p = *(const struct pending *const *)a, *q = *(const struct pending *const *)b;

	return strcmp(p->path, q->path);
}

static int add_child(struct pending ***list, size_t *n, const char *above, const struct stack_entry *e)
{
	struct pending **grown = *n & (*n - 1) ? *list : reallocarray(*list, *n ? 2 * *n : 1, sizeof(struct pending *));
	size_t len = strlen(above);
	struct pending *p;

	if (!grown)
		return -ENOMEM;
	*list = grown;
	p = malloc(sizeof(*p) + len + e->name_len + 2);
	if (!p)
		return -ENOMEM;
	p->ino = e->ino;
	memcpy(p->path, above, len);
	if (len > 0)
		p->path[len++] = '/';
	memcpy(p->path + len, e->name, e->name_len);
	p->path[len + e->name_len] = '\0';
	grown[(*n)++] = p;
	return 0;
}

/* -EUCLEAN for a directory that was entered before: it lies in itself, or has several names. */
static int enter(struct state_walk *w, const char *path, uint64_t ino)
{
	const struct session *s = &w->state->session;
	struct map_node *node = map_first(&w->entered, map_hash_u64(ino));
	struct entered *entered;

	while (node && ((struct entered *)node)->ino != ino)
		node = map_next(node);
	if (node)
		return log_error(&s->log, -EUCLEAN,
		                 "%s: damaged: run `umlfs check`: directory %" PRIu64
		                 " may have one name, and has another, /%s",
		                 s->label, ino, path);
	entered = map_reserve(&w->entered, 1) == 0 ? malloc(sizeof(*entered)) : NULL;
	if (!entered)
		return -ENOMEM;
	entered->ino = ino;
	map_add(&w->entered, &entered->node, map_hash_u64(ino));
	return 0;
}

/* Puts a directory's names before all that is pending. */
static int push_children(struct state_walk *w, const char *path, uint64_t ino, struct pending **todo)
{
	struct pending **list = NULL;
	struct stack_entry entry;
	struct stack_walk walk;
	size_t n = 0;
	int r = enter(w, path, ino);

	if (r == 0)
		r = stack_walk_start(&w->state->session.stack, ino, 0, &walk);
	while (r >= 0 && (r = stack_walk_next(&walk, &entry)) > 0)
		r = add_child(&list, &n, path, &entry);
	if (n > 1)
		qsort(list, n, sizeof(*list), by_name);
	while (n > 0) {
		struct pending *p = list[--n];

		p->next = *todo;
		*todo = p;
	}
	free(list);
	return r;
}

int state_walk_tree(struct state_walk *w, const char *path, uint64_t ino)
{
	struct pending *todo = NULL;
	bool is_dir = false;
	int r = visit(w, path, ino, &is_dir);

	if (r == 0 && is_dir)
		r = push_children(w, path, ino, &todo);
	while (todo) {
		struct pending *p = todo;

		todo = p->next;
		if (r == 0)
			r = visit(w, p->path, p->ino, &is_dir);
		if (r == 0 && is_dir)
			r = push_children(w, p->path, p->ino, &todo);
		free(p);
	}
	return r;
}

int state_resolve(const struct state *state, const char *path, uint64_t *ino_out)
{
	uint64_t ino = FORMAT_ROOT_INO;
	int r = 0;

	while (r == 0 && *path) {
		size_t len = strcspn(path, "/");

		r = names_lookup(&state->session.stack, ino, path, len, &ino);
		if (r == 0 && ino == 0)
			r = -ENOENT;
		path += len + (path[len] == '/');
	}
	if (r == 0)
		*ino_out = ino;
	return r;
}

int state_next_data(struct state *state, const struct inode *inode, uint64_t at, uint64_t *start_out, uint64_t *end_out)
{
	int64_t data, hole;

	if (at >= inode->size)
		return 0;
	data = tree_lseek(&state->tree, inode->ino, at, SEEK_DATA);
	if (data == -ENXIO)
		return 0;
	if (data == -EINVAL) /* the host knows no holes */
		data = (int64_t)at;
	hole = data < 0 ? data : tree_lseek(&state->tree, inode->ino, (uint64_t)data, SEEK_HOLE);
	if (hole == -EINVAL)
		hole = (int64_t)inode->size;
	if (hole < 0)
		return (int)hole;
	if ((uint64_t)data >= inode->size)
		return 0;
	*start_out = (uint64_t)data;
	*end_out = (uint64_t)hole < inode->size ? (uint64_t)hole : inode->size;
	return 1;
}
