/*
 * pool: owns blocks of memory and hands out pieces of them.
 * Invariant: a piece is out, or in the list of holes of its size, or behind next; no piece is in two of these.
 * Called by layer.
 */
#include "pool.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

/* So that the address sanitizer knows pieces that are not out. */
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

/*
 * Blocks grow with the pool, so that a small one stays small and a large one has few. The largest are mapped, so that they go
 * back to the system at once, whatever else the heap holds. Huge pages for them were slower.
 */
enum { FIRST_BLOCK = 4 << 10, LARGEST_BLOCK = 1 << 20 };

struct pool_block {
	struct pool_block *before;
	size_t size;
};

struct pool_hole {
	struct pool_hole *next;
};

_Static_assert(sizeof(struct pool_block) % POOL_GRAIN == 0, "pieces are aligned from the first one on");
_Static_assert(_Alignof(struct timespec) <= POOL_GRAIN && _Alignof(void *) <= POOL_GRAIN, "they may hold any of ours");
_Static_assert(sizeof(struct pool_hole) <= POOL_GRAIN, "every piece can be a hole");

static size_t rounded(size_t size)
{
	assert(size <= POOL_MAX);
	return size == 0 ? POOL_GRAIN : (size + POOL_GRAIN - 1) / POOL_GRAIN * POOL_GRAIN;
}

static struct pool_hole **holes_of(struct pool *pool, size_t size)
{
	return &pool->holes[size / POOL_GRAIN - 1];
}

static int add_block(struct pool *pool)
{
	size_t size = pool->blocks ? pool->blocks->size * 2 : FIRST_BLOCK;
	struct pool_block *block;

	if (size < LARGEST_BLOCK) {
		block = malloc(size);
	} else {
		size = LARGEST_BLOCK;
		block = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (!block || block == MAP_FAILED)
		return -1;
	*block = (struct pool_block){.before = pool->blocks, .size = size};
	pool->blocks = block;
	pool->next = (unsigned char *)(block + 1);
	pool->left = size - sizeof(*block);
	ASAN_POISON_MEMORY_REGION(pool->next, pool->left);
	return 0;
}

void *pool_get(struct pool *pool, size_t size)
{
	size_t taken = rounded(size);
	struct pool_hole **holes = holes_of(pool, taken);
	void *object = *holes;

	if (object) {
		ASAN_UNPOISON_MEMORY_REGION(object, taken);
		*holes = (*holes)->next;
	} else {
		if (pool->left < taken && add_block(pool) < 0)
			return NULL;
		object = pool->next;
		pool->next += taken;
		pool->left -= taken;
		ASAN_UNPOISON_MEMORY_REGION(object, taken);
	}
	pool->n++;
	return object;
}

void pool_put(struct pool *pool, void *object, size_t size)
{
	size_t taken = rounded(size);
	struct pool_hole *hole = object;

	if (!object)
		return;
	if (--pool->n == 0) {
		pool_fini(pool);
		return;
	}
	hole->next = *holes_of(pool, taken);
	*holes_of(pool, taken) = hole;
	ASAN_POISON_MEMORY_REGION(object, taken);
}

void pool_fini(struct pool *pool)
{
	while (pool->blocks) {
		struct pool_block *block = pool->blocks;

		pool->blocks = block->before;
		ASAN_UNPOISON_MEMORY_REGION(block, block->size);
		if (block->size == LARGEST_BLOCK)
			munmap(block, LARGEST_BLOCK);
		else
			free(block);
	}
	*pool = (struct pool){0};
}
