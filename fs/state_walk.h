/* state_walk: every file of a state in one order, and its data without its holes. */
#pragma once

#include "map.h"
#include "names.h"
#include "state.h"

/*
 * path: below the root, without a slash at the front, "" for the root. first: the path under which this inode was visited
 * before, NULL when it is the first time. Below 0 ends the walk.
 */
typedef int state_visit(void *arg, const char *path, const struct inode *inode, const char *first);

struct state_walk {
	struct state *state;
	state_visit *visit;
	void *arg;
	struct map firsts;  /* of inodes with several names */
	struct map entered; /* directories */
};

void state_walk_fini(struct state_walk *w);

/* Visits one file. */
int state_walk_one(struct state_walk *w, const char *path, uint64_t ino);

/*
 * Visits a file and all below: directories before what is in them, names sorted by their bytes. -EUCLEAN, written to the
 * session's log: a directory has several names, of which one may lie in itself; the walk ends at the second one.
 */
int state_walk_tree(struct state_walk *w, const char *path, uint64_t ino);

/* The inode at a path of the form that state_visit has; -ENOENT. Links are not followed. */
int state_resolve(const struct state *state, const char *path, uint64_t *ino_out);

/* The next stretch of a regular file that is no hole, at or behind `at`: 1, 0 when there is none, or -errno. */
int state_next_data(struct state *state, const struct inode *inode, uint64_t at, uint64_t *start_out,
                    uint64_t *end_out);
