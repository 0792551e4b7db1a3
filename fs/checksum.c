/*
 * checksum: the only door to xxhash.
 * Invariant: a content hash is the same for the same bytes, however they were cut or left out as holes.
 * Called by whoever writes or checks bytes on disk.
 */
#include "checksum.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io.h"

enum { BLOCK = 4096 };

struct checksum_content {
	XXH3_state_t *state;
	uint64_t block; /* number of the block being gathered */
	size_t filled;  /* bytes of it that may differ from zero */
	unsigned char bytes[BLOCK];
};

uint64_t checksum64(const void *bytes, size_t len, uint64_t seed)
{
	return XXH3_64bits_withSeed(bytes, len, seed);
}

struct checksum_id checksum128(const void *bytes, size_t len)
{
	XXH128_hash_t hash = XXH3_128bits(bytes, len);

	return (struct checksum_id){.low = hash.low64, .high = hash.high64};
}

int checksum_content_new(struct checksum_content **out)
{
	struct checksum_content *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	c->state = XXH3_createState();
	if (!c->state) {
		free(c);
		return -ENOMEM;
	}
	checksum_content_reset(c);
	*out = c;
	return 0;
}

void checksum_content_free(struct checksum_content *c)
{
	if (!c)
		return;
	XXH3_freeState(c->state);
	free(c);
}

void checksum_content_reset(struct checksum_content *c)
{
	XXH3_64bits_reset(c->state);
	c->block = 0;
	c->filled = 0;
}

static void add_number(struct checksum_content *c, uint64_t number)
{
	uint64_t bytes = htole64(number);

	XXH3_64bits_update(c->state, &bytes, sizeof(bytes));
}

/* Hashes the gathered block as one of len bytes and empties it. */
static void close_block(struct checksum_content *c, size_t len)
{
	if (!io_all_zero(c->bytes, c->filled)) {
		memset(c->bytes + c->filled, 0, BLOCK - c->filled);
		add_number(c, c->block);
		XXH3_64bits_update(c->state, c->bytes, len);
	}
	c->filled = 0;
}

void checksum_content_add(struct checksum_content *c, const void *bytes, size_t len, uint64_t offset)
{
	const unsigned char *from = bytes;

	while (len > 0) {
		size_t start = offset % BLOCK;
		size_t part = BLOCK - start < len ? BLOCK - start : len;

		if (offset / BLOCK != c->block) {
			close_block(c, BLOCK);
			c->block = offset / BLOCK;
		}
		memset(c->bytes + c->filled, 0, start > c->filled ? start - c->filled : 0);
		memcpy(c->bytes + start, from, part);
		c->filled = start + part;
		from += part;
		offset += part;
		len -= part;
	}
}

uint64_t checksum_content_end(struct checksum_content *c, uint64_t size)
{
	uint64_t start = c->block * BLOCK;

	close_block(c, size - start < BLOCK ? (size_t)(size - start) : BLOCK);
	add_number(c, size);
	return XXH3_64bits_digest(c->state);
}
