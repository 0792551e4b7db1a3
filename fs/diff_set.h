/*
 * diff_set: the inodes and names in which two states may differ: what the layers say that only one of them stands on.
 */
#pragma once

#include "names.h"
#include "state.h"

/* A name that means another inode in the one state than in the other, or nothing in one of them. */
struct diff_slot {
	struct map_node node; /* hash: parent and name */
	uint64_t parent;
	const char *name; /* borrowed from a layer */
	size_t len;
	uint64_t a, b;                     /* inode numbers in the earlier and the later state, 0: no such name */
	char *path_a, *path_b;             /* where there is one */
	struct diff_slot *next_a, *next_b; /* of the same inode */
	bool told_a, told_b;               /* what happened to the earlier, to the later is told */
};

struct diff_node {
	struct map_node node; /* hash: number */
	uint64_t ino;
	bool in_a, in_b; /* it has a name there */
	struct inode a, b;
	struct diff_slot *gone, *come; /* names that only the earlier state has, or only the later */
	char *first_b; /* once asked for: of a file with several names the first path in the later state */
	uint64_t heir; /* a directory that is gone: the one that stands in its place, else 0 */
};

struct diff_set {
	struct state *from, *to;
	struct names *from_names, *to_names;
	struct map nodes, slots;
	int r;
};

int diff_set_init(struct diff_set *set, struct state *from, struct state *to);
void diff_set_fini(struct diff_set *set);

/* NULL when both states have the same of it. */
struct diff_node *diff_set_node(const struct diff_set *set, uint64_t ino);
