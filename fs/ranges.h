/*
 * ranges: a set of byte ranges of one file, sorted, none touching another.
 *
 * All zeros is the empty set. A set changes in two steps, so that a change cannot fail halfway: ranges_reserve(), then
 * ranges_add().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
	uint64_t from, to; /* to is the first byte behind it */
};

struct ranges {
	struct range *list;
	size_t n, room;
	uint64_t bytes; /* in all of them */
};

/* Makes room for so many ranges more: 0 or -ENOMEM. */
int ranges_reserve(struct ranges *r, size_t more);

/* from below to; needs a ranges_reserve() that covers it. What the set has already stays. */
void ranges_add(struct ranges *r, uint64_t from, uint64_t to);

/* Where the range that holds this byte ends, or (*in is false) the next one begins: UINT64_MAX when there is none. */
uint64_t ranges_end(const struct ranges *r, uint64_t at, bool *in);

/* Empties it; what was reserved stays. */
void ranges_clear(struct ranges *r);

void ranges_fini(struct ranges *r);
