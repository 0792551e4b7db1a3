/*
 * pin: owns the counters of held inodes.
 * Invariant: a page is there only while a counter in it is above zero.
 * Called by tree, notify and fuse_ops.
 */
#include "pin.h"

#include <errno.h>
#include <stdlib.h>

enum { PER_PAGE = 128 };

struct page {
	struct map_node node; /* hash: number / PER_PAGE */
	uint64_t number;
	unsigned int n_held;
	uint64_t counts[PER_PAGE];
};

struct renewed {
	struct map_node node; /* hash: ino */
	uint64_t ino, generation;
};

static struct page *find_page(const struct pins *pins, uint64_t ino)
{
	uint64_t number = ino / PER_PAGE;
	struct map_node *node = map_first(&pins->pages, map_hash_u64(number));

	while (node && ((struct page *)node)->number != number)
		node = map_next(node);
	return (struct page *)node;
}

int pin_get(struct pins *pins, uint64_t ino)
{
	struct page *page = find_page(pins, ino);

	if (!page) {
		int r = map_reserve(&pins->pages, 1);

		if (r < 0)
			return r;
		page = calloc(1, sizeof(*page));
		if (!page)
			return -ENOMEM;
		page->number = ino / PER_PAGE;
		map_add(&pins->pages, &page->node, map_hash_u64(page->number));
	}
	if (page->counts[ino % PER_PAGE]++ == 0)
		page->n_held++;
	return 0;
}

static struct renewed *find_renewed(const struct pins *pins, uint64_t ino)
{
	struct map_node *node = pins->renewed.n > 0 ? map_first(&pins->renewed, map_hash_u64(ino)) : NULL;

	while (node && ((struct renewed *)node)->ino != ino)
		node = map_next(node);
	return (struct renewed *)node;
}

static void forget_renewed(struct pins *pins, uint64_t ino)
{
	struct renewed *found = find_renewed(pins, ino);

	if (!found)
		return;
	map_remove(&pins->renewed, &found->node);
	free(found);
}

int pin_put(struct pins *pins, uint64_t ino, uint64_t n)
{
	struct page *page = find_page(pins, ino);
	uint64_t *count = page ? &page->counts[ino % PER_PAGE] : NULL;

	if (!count || *count == 0)
		return 0;
	*count -= n < *count ? n : *count;
	if (*count > 0)
		return 0;
	forget_renewed(pins, ino);
	if (--page->n_held == 0) {
		map_remove(&pins->pages, &page->node);
		free(page);
	}
	return 1;
}

uint64_t pin_count(const struct pins *pins, uint64_t ino)
{
	const struct page *page = find_page(pins, ino);

	return page ? page->counts[ino % PER_PAGE] : 0;
}

int pin_renew(struct pins *pins, uint64_t ino)
{
	struct renewed *found = find_renewed(pins, ino);
	int r;

	if (!found) {
		r = map_reserve(&pins->renewed, 1);
		if (r < 0)
			return r;
		found = calloc(1, sizeof(*found));
		if (!found)
			return -ENOMEM;
		found->ino = ino;
		map_add(&pins->renewed, &found->node, map_hash_u64(ino));
	}
	found->generation++;
	return 0;
}

uint64_t pin_generation(const struct pins *pins, uint64_t ino)
{
	const struct renewed *found = find_renewed(pins, ino);

	return found ? found->generation : 0;
}

static void free_node(struct map_node *node, void *arg)
{
	free(node);
}

void pin_fini(struct pins *pins)
{
	map_each(&pins->pages, free_node, NULL);
	map_fini(&pins->pages);
	map_each(&pins->renewed, free_node, NULL);
	map_fini(&pins->renewed);
}
