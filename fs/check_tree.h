/* check_tree: whether what a stack of layers shows is one tree. */
#pragma once

#include "findings.h"
#include "stack.h"

struct check_tree;

/*
 * Walks the tree that the stack shows and notes: names of inodes that are nowhere, directories with several
 * names or in a circle, wrong "..", wrong link counts, inodes without a name that say they have links, names
 * in what is no directory. state is how findings call the stack. mendable: a record can mend it, as the stack
 * is the session's own. 0 and the paths in *out, or -ENOMEM, -EUCLEAN (the index is damaged).
 */
int check_tree(const struct stack *stack, const char *state, bool mendable, struct findings *findings,
               struct check_tree **out);
void check_tree_free(struct check_tree *t);

/* The first path that the walk found to ino, with a '/' before it, on the heap; NULL when there is none. */
char *check_tree_path(const struct check_tree *t, uint64_t ino);

/* For qsort(3) and bsearch(3) in numbers of inodes, each a uint64_t. */
int check_tree_by_number(const void *a, const void *b);
