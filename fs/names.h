/*
 * names: by which paths an inode can be reached in one state.
 *
 * Costs as much as the session's layers hold; the base's entries are looked through only when one of its inodes with
 * several names is asked for.
 */
#pragma once

#include "session.h"

struct names;

/* The session is borrowed, and its stack may not change. */
int names_new(const struct session *session, struct names **out);
void names_free(struct names *n);

/* The name that parent/name has in this state: its number, 0 when there is none, or -EUCLEAN. parent may be anything. */
int names_lookup(const struct stack *stack, uint64_t parent, const char *name, size_t len, uint64_t *ino_out);

/* Visits each name of the inode, in no order, until visit answers other than 0, and answers that. */
typedef int names_visit(void *arg, uint64_t parent, const char *name, size_t len);
int names_each(struct names *n, uint64_t ino, names_visit *visit, void *arg);

/*
 * The path of parent/name, which begins with '/', on the heap. parent is a live directory. len 0: of parent itself.
 * -EUCLEAN, written to the session's log: going up does not end at the root.
 */
int names_path(struct names *n, uint64_t parent, const char *name, size_t len, char **out);

/* Every path of the inode on the heap, sorted with names_order(); the caller frees each and the list. */
int names_paths(struct names *n, uint64_t ino, char ***list_out, size_t *n_out);
void names_free_paths(char **list, size_t n);

/* The order in which a walk with sorted names meets paths: a directory before what is in it, that before its sibling. */
int names_order(const char *a, const char *b);
