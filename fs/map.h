/*
 * map: a hash table of nodes that live inside their owner's structures.
 *
 * The node is the first member of the owner, so that a node pointer is an owner pointer. The map compares
 * hashes only; who looks something up walks map_first(), map_next() and compares the rest. Keys may repeat.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

struct map {
	struct map_node **buckets;
	size_t n_buckets; /* a power of two, or 0 before the first reserve */
	size_t n;
};

/* Makes room for one more node than there are: 0 or -ENOMEM. After it map_add() cannot fail. */
int map_reserve(struct map *map, size_t more);

/* Adds a node; needs a map_reserve() that covers it. The map keeps the pointer, the caller keeps the memory. */
void map_add(struct map *map, struct map_node *node, uint64_t hash);

/* Takes a node out that is in the map. */
void map_remove(struct map *map, struct map_node *node);

/* The first node of this hash, or NULL; then the next ones. */
struct map_node *map_first(const struct map *map, uint64_t hash);
struct map_node *map_next(const struct map_node *node);

/* Calls visit for each node, in no order. visit may free the node, but may not change the map. */
void map_each(const struct map *map, void (*visit)(struct map_node *node, void *arg), void *arg);

/* Frees the table, not the nodes. */
void map_fini(struct map *map);

/*
 * Spreads numbers over 64 bits, and leaves such as follow each other side by side: they are used together, and their buckets
 * then share cache lines.
 */
static inline uint64_t map_hash_u64(uint64_t key)
{
	uint64_t together = key >> 6;

	together ^= together >> 32;
	together *= 0x9e3779b97f4a7c15u;
	return (together ^ together >> 29) + (key & 63);
}
