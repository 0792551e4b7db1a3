/*
 * layer_dir: keeps the slots of one directory sorted by cookie.
 * Invariant: cookies grow from slot to slot; an entry that went leaves an empty slot until half are empty.
 * Called by layer, and read by stack.
 */
#include "layer_dir.h"

#include <errno.h>
#include <stdlib.h>

int layer_dir_reserve(struct layer_dir *dir, size_t more)
{
	size_t cap = dir->cap ? dir->cap : 4;
	struct layer_slot *slots;

	while (cap < dir->n + more)
		cap *= 2;
	if (cap == dir->cap)
		return 0;
	slots = reallocarray(dir->slots, cap, sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	dir->slots = slots;
	dir->cap = cap;
	return 0;
}

void layer_dir_add(struct layer_dir *dir, struct layer_entry *entry)
{
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

void layer_dir_remove(struct layer_dir *dir, const struct layer_entry *entry)
{
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
