/*
 * export_layer: owns the list of what the layer does.
 * Invariant: a whiteout comes only where the later state has nothing, since readers differ in what both would mean.
 * Called by export.
 */
#include "export_layer.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "cleanup.h"
#include "diff_match.h"

#define WHITEOUT ".wh."
#define OPAQUE   ".wh..wh..opq"

/* What the layer says of one path of the later state; ino 0: there is nothing. */
struct event {
	const char *path; /* as a diff_item has it */
	uint64_t ino;
	bool tree;   /* with all below: what a renamed directory took along */
	bool socket; /* which the layer cannot hold: as if there were nothing */
	bool fresh;  /* nothing that the earlier state has in this place is left */
};

/* A name in the layer of an inode that has several. */
struct told {
	struct map_node node; /* hash: path and number */
	uint64_t ino;
	char path[];
};

struct layer_export {
	struct export_tar *tar;
	struct state *from, *to;
	const struct log *log;
	struct names *names; /* of to */
	struct state_walk walk;
	uint64_t opaque; /* the directory that needs its mark, or 0 */
	struct map told;
	uint64_t *several; /* inodes that told has names of, in the order of their first ones */
	size_t n_several;
	struct event *events;
	size_t n;
};

/* What a state has at a path that begins with '/': 0 for nothing. */
static int look(const struct state *state, const char *path, struct inode *out)
{
	uint64_t ino = 0;
	int r = state_resolve(state, path + 1, &ino);

	*out = (struct inode){0};
	if (r == 0)
		r = stack_inode(&state->session.stack, ino, out);
	return r == -ENOENT ? 0 : r;
}

/* A socket was not in the layer below. */
static int add_gone(struct layer_export *x, const char *path)
{
	struct inode now, before;
	int r = look(x->to, path, &now);

	if (r == 0)
		r = look(x->from, path, &before);
	if (r == 0 && now.ino == 0 && !S_ISSOCK(before.mode))
		x->events[x->n++] = (struct event){.path = path};
	return r;
}

/* At most two events for each change. */
static int add_item(struct layer_export *x, const struct diff_item *item)
{
	struct inode now;
	int r;

	if (item->kind == DIFF_DELETED)
		return add_gone(x, item->path);
	r = stack_inode(&x->to->session.stack, item->b, &now);
	if (r == 0 && item->kind == DIFF_RENAMED)
		r = add_gone(x, item->old_path);
	if (r < 0)
		return r;
	x->events[x->n++] = (struct event){
		.path = item->path,
		.ino = item->b,
		.tree = item->kind == DIFF_RENAMED,
		.socket = S_ISSOCK(now.mode),
		.fresh = item->kind != DIFF_MODIFIED, /* a directory that was made again is told entry by entry */
	};
	return 0;
}

static bool is_below(const char *path, const char *dir)
{
	size_t len = dir ? strlen(dir) : 0;

	return dir && strncmp(path, dir, len) == 0 && path[len] == '/';
}

/* dir/mark + name */
static int put_mark(struct layer_export *x, const char *dir, size_t dir_len, const char *mark, const char *name)
{
	cleanup_free char *path = malloc(dir_len + strlen(mark) + strlen(name) + 2);

	if (!path)
		return -ENOMEM;
	memcpy(path, dir, dir_len);
	path[dir_len] = '\0';
	if (dir_len > 0)
		strcat(path, "/");
	strcat(path, mark);
	strcat(path, name);
	return export_tar_mark(x->tar, path);
}

static int put_whiteout(struct layer_export *x, const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	size_t dir_len = (size_t)(name - path) - 1; /* with the slash at the front, 0 in the root */

	if (strlen(WHITEOUT) + strlen(name) > NAME_MAX)
		return log_error(x->log, -EINVAL,
		                 "%s: is gone, and a layer cannot tell it of a name of more than %zu bytes: export "
		                 "without --diff",
		                 path, NAME_MAX - strlen(WHITEOUT));
	/* Of .wh..opq, for one, it would mean something else. */
	if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) == 0)
		return log_error(x->log, -EINVAL,
		                 "%s: is gone, and a layer cannot tell it of such a name: export without --diff", path);
	return put_mark(x, path + 1, dir_len > 0 ? dir_len - 1 : 0, WHITEOUT, name);
}

static int check_name(const struct layer_export *x, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (strncmp(name, WHITEOUT, strlen(WHITEOUT)) != 0)
		return 0;
	return log_error(
		x->log, -EINVAL,
		"/%s: a layer cannot hold this name, it would remove a file: rename it, or export without --diff",
		path);
}

static uint64_t hash_told(const char *path, uint64_t ino)
{
	return checksum64(path, strlen(path), ino);
}

static bool is_told(const struct layer_export *x, const char *path, uint64_t ino)
{
	const struct map_node *node = map_first(&x->told, hash_told(path, ino));

	for (; node; node = map_next(node)) {
		const struct told *told = (const struct told *)node;

		if (told->ino == ino && strcmp(told->path, path) == 0)
			return true;
	}
	return false;
}

/* The first name of an inode with several is in the layer. */
static int note_several(struct layer_export *x, uint64_t ino)
{
	uint64_t *grown = x->several;

	if ((x->n_several & (x->n_several - 1)) == 0) /* full: there is room for a power of two */
		grown = reallocarray(x->several, x->n_several ? 2 * x->n_several : 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	x->several = grown;
	grown[x->n_several++] = ino;
	return 0;
}

/* A name of such an inode is in the layer. */
static int note_name(struct layer_export *x, const char *path, uint64_t ino)
{
	size_t len = strlen(path) + 1;
	struct told *told = map_reserve(&x->told, 1) == 0 ? malloc(sizeof(*told) + len) : NULL;

	if (!told)
		return -ENOMEM;
	told->ino = ino;
	memcpy(told->path, path, len);
	map_add(&x->told, &told->node, hash_told(path, ino));
	return 0;
}

static int put_file(void *arg, const char *path, const struct inode *inode, const char *first)
{
	struct layer_export *x = arg;
	bool has_several = !inode_is_dir(inode) && inode->nlink > 1;
	int r = check_name(x, path);

	if (r == 0)
		r = export_tar_add(x->tar, path, inode, first);
	if (r == 0 && inode->ino == x->opaque)
		r = put_mark(x, path, strlen(path), OPAQUE, "");
	if (r == 0 && has_several && !first)
		r = note_several(x, inode->ino);
	if (r == 0 && has_several)
		r = note_name(x, path, inode->ino);
	return r;
}

/* The names of one file that nothing happened to. */
static int put_other_names(struct layer_export *x, uint64_t ino)
{
	char **paths;
	size_t n;
	int r = names_paths(x->names, ino, &paths, &n);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (!is_told(x, paths[i] + 1, ino))
			r = state_walk_one(&x->walk, paths[i] + 1, ino);
	}
	names_free_paths(paths, n);
	return r;
}

/*
 * A file with several names comes whole, so a name that is left to the layer below would lose it. At the end, because the
 * directories that such names are in are those of the layer below, or in the layer by now.
 */
static int put_left_names(struct layer_export *x)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < x->n_several; i++)
		r = put_other_names(x, x->several[i]);
	return r;
}

static void free_told(struct map_node *node, void *arg)
{
	free(node);
}

/* True when the earlier state has another directory in this place, whose entries must not show through. */
static int hides_directory(const struct layer_export *x, const struct event *e, const struct inode *now)
{
	struct inode before;
	int r = look(x->from, e->path, &before);

	return r < 0 ? r : before.ino != 0 && before.ino != now->ino && inode_is_dir(&before) && inode_is_dir(now);
}

/* The walk says that a socket is left out. What it stands in the place of has to go. */
static int put_socket(struct layer_export *x, const struct event *e)
{
	struct inode before;
	int r = look(x->from, e->path, &before);

	if (r == 0)
		r = state_walk_one(&x->walk, e->path + 1, e->ino);
	if (r < 0 || before.ino == 0 || S_ISSOCK(before.mode))
		return r;
	return put_whiteout(x, e->path);
}

static int put_event(struct layer_export *x, const struct event *e)
{
	struct inode now;
	int r = stack_inode(&x->to->session.stack, e->ino, &now);

	if (r == 0 && e->fresh)
		r = hides_directory(x, e, &now);
	if (r < 0)
		return r;
	x->opaque = r ? e->ino : 0;
	return e->tree ? state_walk_tree(&x->walk, e->path + 1, e->ino) : state_walk_one(&x->walk, e->path + 1, e->ino);
}

static int by_path(const void *a, const void *b)
{
	return names_order(((const struct event *)a)->path, ((const struct event *)b)->path);
}

/* In the order of the paths; what a whiteout or a whole directory tells of already is passed over. */
static int put_events(struct layer_export *x)
{
	const char *gone = NULL, *whole = NULL;
	int r = 0;

	if (x->n > 1)
		qsort(x->events, x->n, sizeof(*x->events), by_path);
	for (size_t i = 0; r == 0 && i < x->n; i++) {
		const struct event *e = &x->events[i];

		if (is_below(e->path, whole) || (e->ino == 0 && is_below(e->path, gone)))
			continue;
		if (e->ino == 0 || e->socket)
			gone = e->path;
		if (e->tree)
			whole = e->path;
		if (e->socket)
			r = put_socket(x, e);
		else
			r = e->ino == 0 ? put_whiteout(x, e->path) : put_event(x, e);
	}
	return r;
}

static int put_changes(struct layer_export *x, const struct diff_list *list)
{
	int r = 0;

	x->events = calloc(2 * list->n + 1, sizeof(*x->events));
	if (!x->events)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < list->n; i++)
		r = add_item(x, &list->items[i]);
	return r < 0 ? r : put_events(x);
}

int export_layer(struct export_tar *tar, struct state *from, struct state *to, const struct log *log)
{
	struct layer_export x = {.tar = tar, .from = from, .to = to, .log = log};
	struct diff_list list = {0};
	struct diff_set set;
	int r = diff_set_init(&set, from, to);

	if (r < 0)
		return r;
	x.names = set.to_names;
	x.walk = (struct state_walk){.state = to, .visit = put_file, .arg = &x};
	r = diff_match(&set, true, &list);
	if (r == 0)
		r = put_changes(&x, &list);
	if (r == 0)
		r = put_left_names(&x);
	state_walk_fini(&x.walk);
	map_each(&x.told, free_told, NULL);
	map_fini(&x.told);
	free(x.several);
	free(x.events);
	diff_list_fini(&list);
	diff_set_fini(&set);
	return r;
}
