/*
 * map: owns the bucket table, never the nodes.
 * Invariant: there are at least as many buckets as nodes, so chains stay short.
 * Called by whoever looks things up by number or name.
 */
#include "map.h"

#include <errno.h>
#include <stdlib.h>

enum { FIRST_BUCKETS = 16 };

static struct map_node **bucket(const struct map *map, uint64_t hash)
{
	return &map->buckets[hash & (map->n_buckets - 1)];
}

int map_reserve(struct map *map, size_t more)
{
	size_t want = map->n_buckets ? map->n_buckets : FIRST_BUCKETS;
	struct map bigger = {.n = map->n};

	while (want < map->n + more)
		want *= 2;
	if (want == map->n_buckets)
		return 0;
	bigger.buckets = calloc(want, sizeof(*bigger.buckets));
	if (!bigger.buckets)
		return -ENOMEM;
	bigger.n_buckets = want;
	for (size_t i = 0; i < map->n_buckets; i++) {
		struct map_node *node = map->buckets[i];

		while (node) {
			struct map_node *next = node->next;
			struct map_node **slot = bucket(&bigger, node->hash);

			node->next = *slot;
			*slot = node;
			node = next;
		}
	}
	free(map->buckets);
	*map = bigger;
	return 0;
}

void map_add(struct map *map, struct map_node *node, uint64_t hash)
{
	struct map_node **slot = bucket(map, hash);

	node->hash = hash;
	node->next = *slot;
	*slot = node;
	map->n++;
}

void map_remove(struct map *map, struct map_node *node)
{
	struct map_node **slot = bucket(map, node->hash);

	while (*slot != node)
		slot = &(*slot)->next;
	*slot = node->next;
	map->n--;
}

static struct map_node *same_hash(struct map_node *node, uint64_t hash)
{
	while (node && node->hash != hash)
		node = node->next;
	return node;
}

struct map_node *map_first(const struct map *map, uint64_t hash)
{
	return map->n ? same_hash(*bucket(map, hash), hash) : NULL;
}

struct map_node *map_next(const struct map_node *node)
{
	return same_hash(node->next, node->hash);
}

void map_each(const struct map *map, void (*visit)(struct map_node *node, void *arg), void *arg)
{
	for (size_t i = 0; i < map->n_buckets; i++) {
		struct map_node *node = map->buckets[i];

		while (node) {
			struct map_node *next = node->next;

			visit(node, arg);
			node = next;
		}
	}
}

void map_fini(struct map *map)
{
	free(map->buckets);
	*map = (struct map){0};
}
