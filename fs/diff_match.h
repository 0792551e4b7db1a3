/* diff_match: which change each name went through. */
#pragma once

#include "diff_set.h"
#include "umlfs/diff.h"

/* A change, with the inodes that it is about: of a replaced file two. */
struct diff_item {
	enum diff_kind kind;
	unsigned int what;
	uint64_t a, b;         /* 0 for ADDED, for DELETED */
	char *path, *old_path; /* as in struct diff_change */
};

struct diff_list {
	struct diff_item *items;
	size_t n, cap;
};

/*
 * All changes between two states, sorted by names_order(). Bytes are compared where need be. Of an inode that both states
 * have, a name that went and one that came are a rename; else a name that stands in the place of another, in a directory
 * that is the same or stands in its place, is that one modified. set is used up, but for its names and nodes.
 */
int diff_match(struct diff_set *set, bool times, struct diff_list *out);
void diff_list_fini(struct diff_list *list);
