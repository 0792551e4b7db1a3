/*
 * pool: memory for many small objects of one owner, which go together at the end.
 *
 * An object costs its size, rounded up to POOL_GRAIN; one that is given back serves the next one of its size. Memory goes
 * back to the system when the last object is given back, or with pool_fini().
 */
#pragma once

#include <stddef.h>

enum { POOL_GRAIN = 8, POOL_MAX = 512 }; /* bytes; POOL_MAX: the largest object */

struct pool_block;
struct pool_hole;

/* All zeros is an empty pool. */
struct pool {
	struct pool_block *blocks; /* the last one is used up from its start */
	unsigned char *next;       /* in it */
	size_t left;
	size_t n;                                       /* objects that are out */
	struct pool_hole *holes[POOL_MAX / POOL_GRAIN]; /* by size: objects that came back */
};

/* So many bytes, POOL_MAX at most, that hold anything: NULL when there is no memory. */
void *pool_get(struct pool *pool, size_t size);

/* Gives one back that pool_get() made of this size. NULL is nothing. */
void pool_put(struct pool *pool, void *object, size_t size);

/* Frees every object. */
void pool_fini(struct pool *pool);
