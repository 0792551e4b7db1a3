/*
 * ranges: owns a sorted list.
 * Invariant: each range ends before the next begins, and bytes is the sum of their lengths.
 * Called by layer, for the parts of a file that it holds.
 */
#include "ranges.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int ranges_reserve(struct ranges *r, size_t more)
{
	struct range *grown;
	size_t room;

	if (r->n + more <= r->room)
		return 0;
	room = (r->n + more) * 2;
	grown = reallocarray(r->list, room, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	r->list = grown;
	r->room = room;
	return 0;
}

/* The first range that ends at this byte or behind it: its place in the list. */
static size_t find(const struct ranges *r, uint64_t at)
{
	size_t low = 0, high = r->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (r->list[middle].to < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

void ranges_add(struct ranges *r, uint64_t from, uint64_t to)
{
	size_t first = find(r, from);
	size_t end = first;

	while (end < r->n && r->list[end].from <= to) {
		if (r->list[end].from < from)
			from = r->list[end].from;
		if (r->list[end].to > to)
			to = r->list[end].to;
		r->bytes -= r->list[end].to - r->list[end].from;
		end++;
	}
	if (end != first + 1)
		memmove(r->list + first + 1, r->list + end, (r->n - end) * sizeof(*r->list));
	r->n = r->n - (end - first) + 1;
	r->list[first] = (struct range){from, to};
	r->bytes += to - from;
}

uint64_t ranges_end(const struct ranges *r, uint64_t at, bool *in)
{
	size_t nr = find(r, at + 1);

	*in = nr < r->n && r->list[nr].from <= at;
	if (nr == r->n)
		return UINT64_MAX;
	return *in ? r->list[nr].to : r->list[nr].from;
}

void ranges_clear(struct ranges *r)
{
	r->n = 0;
	r->bytes = 0;
}

void ranges_fini(struct ranges *r)
{
	free(r->list);
	*r = (struct ranges){0};
}
