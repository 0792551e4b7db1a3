/*
 * unit_world: opens and closes the store and tree that a test works on.
 * Invariant: what a test opened is closed by world_fini(), so that a leak is the library's.
 * Called by the unit tests.
 */
#include "unit_world.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"
#include "unit.h"

void world_make_base(struct world *w, void (*fill)(int basefd))
{
	int basefd;

	*w = (struct world){0};
	place_make(&w->place);
	snprintf(w->base, sizeof(w->base), "%s/base", w->place.path);
	snprintf(w->session, sizeof(w->session), "%s/session", w->place.path);
	assert_int_equal(mkdir(w->base, 0755), 0);
	basefd = open(w->base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(basefd >= 0);
	if (fill)
		fill(basefd);
	else
		place_put(basefd, "file", "base", 4);
	close(basefd);
}

void world_make(struct world *w, void (*fill)(int basefd))
{
	world_make_base(w, fill);
	world_open(w);
}

int world_try_open(struct world *w)
{
	struct store_options options = {
		.session = w->session,
		.base = w->base,
		.log = &w->place.log,
		.max_files = 16,
		.table_min = 1,
		.copying = {.whole = w->copy_whole ? w->copy_whole : WORLD_COPY_WHOLE,
	                    .unit = WORLD_COPY_UNIT,
	                    .no_reflink = true},
	};
	int r = store_open(&options, &w->store);

	if (r == 0)
		tree_init(&w->tree, &w->store->session);
	return r;
}

void world_open(struct world *w)
{
	int r = world_try_open(w);

	if (r < 0)
		fail_msg("the session does not open: %s\n%s", strerror(-r), w->place.lines);
}

void world_crash(struct world *w)
{
	if (!w->store)
		return;
	tree_fini(&w->tree);
	store_close(w->store);
	w->store = NULL;
}

void world_close(struct world *w)
{
	if (w->store)
		expect_status(session_sync(&w->store->session), 0, "syncing");
	if (w->store && w->store->loaded && w->closed++ % 2 == 0)
		session_save_tables(&w->store->session);
	world_crash(w);
}

void world_reopen(struct world *w)
{
	world_close(w);
	world_open(w);
}

void world_fini(struct world *w)
{
	world_crash(w);
	place_remove(&w->place);
}

struct world *world_new(void (*fill)(int basefd))
{
	struct world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	world_make(w, fill);
	return w;
}

int world_teardown(void **state)
{
	world_fini(*state);
	free(*state);
	return 0;
}

int world_parent(struct world *w, const char *path, uint64_t *parent_out, const char **name_out)
{
	struct inode at = {.ino = 1};
	const char *slash;

	while ((slash = strchr(path, '/'))) {
		char name[FORMAT_NAME_MAX + 2];
		int r;

		assert_true((size_t)(slash - path) < sizeof(name));
		snprintf(name, sizeof(name), "%.*s", (int)(slash - path), path);
		r = tree_lookup(&w->tree, at.ino, name, &at);
		if (r < 0)
			return r;
		path = slash + 1;
	}
	if (at.ino != 1 && !inode_is_dir(&at))
		return -ENOTDIR;
	*parent_out = at.ino;
	*name_out = path;
	return 0;
}

int world_find(struct world *w, const char *path, struct inode *out)
{
	uint64_t parent;
	const char *name;
	struct inode found;
	int r;

	if (*path == '\0')
		return tree_getattr(&w->tree, 1, out);
	r = world_parent(w, path, &parent, &name);
	if (r == 0)
		r = tree_lookup(&w->tree, parent, name, &found);
	return r < 0 ? r : tree_getattr(&w->tree, found.ino, out);
}

struct inode world_inode(struct world *w, const char *path)
{
	struct inode inode = {0};

	expect_status(world_find(w, path, &inode), 0, "finding %s", path);
	return inode;
}

uint64_t world_ino(struct world *w, const char *path)
{
	return world_inode(w, path).ino;
}

void world_snapshot(struct world *w, const char *name)
{
	struct snapshot_change change;
	int r = snapshot_create(w->store, name, &w->place.log, &change);

	if (r < 0)
		fail_msg("snapshot %s: %s\n%s", name, strerror(-r), w->place.lines);
	assert_int_equal(snapshot_clean_up(&w->store->session, &change), 0);
}

void world_reset(struct world *w, const char *name)
{
	struct snapshot_change change;
	int r = snapshot_reset(w->store, name, &w->place.log, &change);

	if (r < 0)
		fail_msg("reset to %s: %s\n%s", name ? name : "the nearest", strerror(-r), w->place.lines);
	assert_int_equal(snapshot_clean_up(&w->store->session, &change), 0);
}

void world_delete(struct world *w, const char *name)
{
	struct snapshot_change change;
	int r = snapshot_delete(w->store, name, &w->place.log, &change);

	if (r < 0)
		fail_msg("delete %s: %s\n%s", name, strerror(-r), w->place.lines);
	assert_int_equal(snapshot_clean_up(&w->store->session, &change), 0);
}

bool world_has_content(struct world *w, uint64_t ino)
{
	char path[64];

	snprintf(path, sizeof(path), "session/layers/%u/content/%llu", stack_top(&w->store->session.stack)->id,
	         (unsigned long long)ino);
	return place_has(w->place.fd, path);
}

int world_truncate(struct world *w, uint64_t ino, uint64_t size)
{
	const struct tree_change change = {.fields = INODE_SIZE, .attr.size = size};
	struct inode after;

	return tree_setattr(&w->tree, ino, &change, &after);
}
