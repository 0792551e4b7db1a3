/* layer_dir: the entries that one layer has in one directory, in the order in which readdir gives them. */
#pragma once

#include "map.h"

struct layer_entry {
	struct map_node node; /* hash: name */
	uint64_t ino;         /* 0: a tombstone */
	uint64_t cookie;      /* its place in readdir; grows with every new entry of the session */
	uint8_t len;
	char name[];
};

struct layer_slot {
	uint64_t cookie;
	struct layer_entry *entry; /* NULL: it went */
};

/* slots[0 .. n) by growing cookie. The names of one directory are together, because they are used together. */
struct layer_dir {
	struct map_node node; /* hash: number */
	uint64_t ino;
	struct map names; /* the same entries */
	struct layer_slot *slots;
	size_t n, cap, live;
};

/* Room for more entries, so that layer_dir_add() cannot fail: 0 or -ENOMEM. */
int layer_dir_reserve(struct layer_dir *dir, size_t more);

/* What entries are found by. */
uint64_t layer_dir_hash(const char *name, size_t len);

/* The entry of this name, whose hash that is, or NULL. */
struct layer_entry *layer_dir_find(const struct layer_dir *dir, uint64_t hash, const char *name, size_t len);

/* Adds an entry with a name that is not there and a cookie above all others. The entry stays the caller's. */
void layer_dir_add(struct layer_dir *dir, struct layer_entry *entry, uint64_t hash);

/* Takes an entry out; the cookies of the others stay. */
void layer_dir_remove(struct layer_dir *dir, struct layer_entry *entry);

/* The first slot with a cookie above this one: its number, or dir->n. Slots may be empty. */
size_t layer_dir_after(const struct layer_dir *dir, uint64_t cookie);

/* Frees what the directory holds, but not its entries. */
void layer_dir_fini(struct layer_dir *dir);
