/* layer_dir: the entries that one layer has in one directory, in the order in which readdir gives them. */
#pragma once

#include "map.h"

struct layer_entry {
	struct map_node node; /* hash: parent and name */
	uint64_t parent;
	uint64_t ino;    /* 0: a tombstone */
	uint64_t cookie; /* its place in readdir; grows with every new entry of the session */
	uint8_t len;
	char name[];
};

struct layer_slot {
	uint64_t cookie;
	struct layer_entry *entry; /* NULL: it went */
};

/* slots[0 .. n) by growing cookie. */
struct layer_dir {
	struct map_node node; /* hash: number */
	uint64_t ino;
	struct layer_slot *slots;
	size_t n, cap, live;
};

/* Room for more entries, so that layer_dir_add() cannot fail: 0 or -ENOMEM. */
int layer_dir_reserve(struct layer_dir *dir, size_t more);

/* Adds an entry with a cookie above all others. The entry stays the caller's. */
void layer_dir_add(struct layer_dir *dir, struct layer_entry *entry);

/* Takes an entry out; the cookies of the others stay. */
void layer_dir_remove(struct layer_dir *dir, const struct layer_entry *entry);

/* The first slot with a cookie above this one: its number, or dir->n. Slots may be empty. */
size_t layer_dir_after(const struct layer_dir *dir, uint64_t cookie);
