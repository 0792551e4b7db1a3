/*
 * checksum: XXH3, the one hash of the formats (xxhash.com; the 64-bit and 128-bit variants, little-endian on
 * disk).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct checksum_id {
	uint64_t low, high;
};

/* XXH3-64 of len bytes under a seed. */
uint64_t checksum64(const void *bytes, size_t len, uint64_t seed);

/* XXH3-128 of len bytes. */
struct checksum_id checksum128(const void *bytes, size_t len);

/*
 * The hash of a file's content, which does not depend on where its holes are: XXH3-64 over every aligned 4
 * KiB block that holds a byte other than zero (its number as le64, then the block, the last one as long as
 * the file), then the file's size as le64.
 */
struct checksum_content;

int checksum_content_new(struct checksum_content **out);
void checksum_content_free(struct checksum_content *c);

/* Starts over for another file. */
void checksum_content_reset(struct checksum_content *c);

/* Bytes at offset; offsets only grow, what is left out counts as zeros. */
void checksum_content_add(struct checksum_content *c, const void *bytes, size_t len, uint64_t offset);

/* The hash of a file of this size, not less than what was added. */
uint64_t checksum_content_end(struct checksum_content *c, uint64_t size);
