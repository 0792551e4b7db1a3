/*
 * layer_dir: keeps the slots of one directory sorted by cookie.
 * Invariant: cookies grow from slot to slot; an entry that went leaves an empty slot until half are empty.
 * Called by layer, and read by stack.
 */
#include "layer_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "checksum.h"

int layer_dir_reserve(struct layer_dir *dir, size_t more)
{
	size_t cap = dir->cap ? dir->cap : 4;
	struct layer_slot *slots;

	int r = map_reserve(&dir->names, more);

	while (cap < dir->n + more)
		cap *= 2;
	if (r < 0 || cap == dir->cap)
		return r;
	slots = reallocarray(dir->slots, cap, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	dir->slots = slots;
	dir->cap = cap;
	return 0;
}

uint64_t layer_dir_hash(const char *name, size_t len)
{
	return checksum64(name, len, 0);
}

struct layer_entry *layer_dir_find(const struct layer_dir *dir, uint64_t hash, const char *name, size_t len)
{
	for (struct map_node *node = map_first(&dir->names, hash); node; node = map_next(node)) {
		struct layer_entry *entry = (struct layer_entry *)node;

		if (entry->len == len && memcmp(entry->name, name, len) == 0)
			return entry;
	}
	return NULL;
}

void layer_dir_add(struct layer_dir *dir, struct layer_entry *entry, uint64_t hash)
{
	map_add(&dir->names, &entry->node, hash);
	dir->slots[dir->n++] = (struct layer_slot){.cookie = entry->cookie, .entry = entry};
	dir->live++;
}

static void squeeze(struct layer_dir *dir)
{
	size_t kept = 0;

	for (size_t i = 0; i < dir->n; i++) {
		if (dir->slots[i].entry)
			dir->slots[kept++] = dir->slots[i];
	}
	dir->n = kept;
}

void layer_dir_remove(struct layer_dir *dir, struct layer_entry *entry)
{
	map_remove(&dir->names, &entry->node);
	dir->slots[layer_dir_after(dir, entry->cookie - 1)].entry = NULL;
	dir->live--;
	if (dir->n > 16 && dir->live < dir->n / 2)
		squeeze(dir);
}

size_t layer_dir_after(const struct layer_dir *dir, uint64_t cookie)
{
	size_t low = 0, high = dir->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (dir->slots[middle].cookie > cookie)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

void layer_dir_fini(struct layer_dir *dir)
{
	map_fini(&dir->names);
	free(dir->slots);
}
