/*
 * handles: owns the descriptors of files that are read and written.
 * Invariant: never more than capacity descriptors; the list runs from the most to the least recently used.
 * Called by session, which opens what is not here.
 */
#include "handles.h"

#include <errno.h>
#include <stdlib.h>

#include "cleanup.h"
#include "map.h"

struct handle {
	struct map_node node; /* hash: layer and ino */
	struct handle *next, *prev;
	uint64_t ino;
	uint32_t layer;
	int fd;
};

struct handles {
	struct map map;
	struct handle *newest, *oldest;
	unsigned int capacity, n;
};

int handles_new(unsigned int capacity, struct handles **out)
{
	struct handles *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	h->capacity = capacity < 4 ? 4 : capacity;
	if (map_reserve(&h->map, h->capacity + 1) < 0) {
		free(h);
		return -ENOMEM;
	}
	*out = h;
	return 0;
}

static uint64_t hash(uint32_t layer, uint64_t ino)
{
	return map_hash_u64(ino ^ (uint64_t)layer << 40);
}

static struct handle *find(const struct handles *h, uint32_t layer, uint64_t ino)
{
	struct map_node *node = map_first(&h->map, hash(layer, ino));

	for (; node; node = map_next(node)) {
		struct handle *found = (struct handle *)node;

		if (found->layer == layer && found->ino == ino)
			return found;
	}
	return NULL;
}

static void unlink_handle(struct handles *h, struct handle *x)
{
	*(x->prev ? &x->prev->next : &h->newest) = x->next;
	*(x->next ? &x->next->prev : &h->oldest) = x->prev;
}

static void push_newest(struct handles *h, struct handle *x)
{
	x->prev = NULL;
	x->next = h->newest;
	*(h->newest ? &h->newest->prev : &h->oldest) = x;
	h->newest = x;
}

static void drop(struct handles *h, struct handle *x)
{
	unlink_handle(h, x);
	map_remove(&h->map, &x->node);
	close_fd(x->fd);
	free(x);
	h->n--;
}

void handles_free(struct handles *h)
{
	if (!h)
		return;
	while (h->oldest)
		drop(h, h->oldest);
	map_fini(&h->map);
	free(h);
}

int handles_get(struct handles *h, uint32_t layer, uint64_t ino)
{
	struct handle *x = find(h, layer, ino);

	if (!x)
		return -1;
	if (h->newest != x) {
		unlink_handle(h, x);
		push_newest(h, x);
	}
	return x->fd;
}

int handles_add(struct handles *h, uint32_t layer, uint64_t ino, int fd)
{
	struct handle *x = malloc(sizeof(*x));

	if (!x) {
		close_fd(fd);
		return -ENOMEM;
	}
	if (h->n == h->capacity)
		drop(h, h->oldest);
	*x = (struct handle){.layer = layer, .ino = ino, .fd = fd};
	map_add(&h->map, &x->node, hash(layer, ino));
	push_newest(h, x);
	h->n++;
	return 0;
}

void handles_drop(struct handles *h, uint32_t layer, uint64_t ino)
{
	struct handle *x = find(h, layer, ino);

	if (x)
		drop(h, x);
}

void handles_drop_layer(struct handles *h, uint32_t layer)
{
	struct handle *x = h->newest;

	while (x) {
		struct handle *next = x->next;

		if (x->layer == layer)
			drop(h, x);
		x = next;
	}
}

unsigned int handles_count(const struct handles *h)
{
	return h->n;
}
