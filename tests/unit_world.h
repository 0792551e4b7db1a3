/*
 * unit_world: a base, a session on it and the tree over them, without any mount.
 * Invariant: world.tree is open between world_open() and world_close(), and only then.
 * Called by the tests of tree, store and snapshot.
 */
#pragma once

#include "snapshot.h"
#include "tree.h"
#include "unit_place.h"

/* Bytes: longer files of below are copied up in parts of so many. */
enum { WORLD_COPY_WHOLE = 8000, WORLD_COPY_UNIT = 4096 };

struct world {
	struct place place; /* base/ and session/ are in it */
	char base[160], session[160];
	uint64_t copy_whole; /* 0: WORLD_COPY_WHOLE */
	unsigned int closed; /* how often: every other time sealed layers get tables, so that tests go both ways */
	struct store *store; /* NULL: closed */
	struct tree tree;
};

/* Makes base/ (with the files that fill puts there; NULL: one file "file") and opens a new session on it. */
void world_make(struct world *w, void (*fill)(int basefd));

/* The same without opening anything: w->base is there, w->session is not. */
void world_make_base(struct world *w, void (*fill)(int basefd));
void world_fini(struct world *w);

/* For a test that makes its own world: world_make() of one on the heap, and what takes it away again, as cmocka wants it. */
struct world *world_new(void (*fill)(int basefd));
int world_teardown(void **state);

/* store_open() and tree_init(); world_open() expects it to succeed. */
int world_try_open(struct world *w);
void world_open(struct world *w);
void world_close(struct world *w);

/* What a daemon's end and a new mount do. */
void world_reopen(struct world *w);

/* The session dies here: nothing is settled, as after SIGKILL. */
void world_crash(struct world *w);

/* Walks a path from the root without following links; "" is the root. 0, -ENOENT, -ENOTDIR. */
int world_find(struct world *w, const char *path, struct inode *out);
struct inode world_inode(struct world *w, const char *path); /* must be there */
uint64_t world_ino(struct world *w, const char *path);       /* must be there */

/* The directory of a path's last component, and that component: 0, -ENOENT, -ENOTDIR. */
int world_parent(struct world *w, const char *path, uint64_t *parent_out, const char **name_out);

void world_snapshot(struct world *w, const char *name);
void world_reset(struct world *w, const char *name);
void world_delete(struct world *w, const char *name);

/* True when the layer being written has a content file for this inode. */
bool world_has_content(struct world *w, uint64_t ino);

/* As truncate(2), by number. */
int world_truncate(struct world *w, uint64_t ino, uint64_t size);
