/*
 * unit_checksum: promises of checksum.
 * Invariant: each test tries a content in every way of cutting it that it knows.
 * Called by meson test.
 */
#include "checksum.h"

#include "unit.h"

enum { SIZE = 5 * 4096 + 77 };

/* Bytes with runs of zeros, some of them whole blocks. */
static void fill(unsigned char bytes[SIZE])
{
	for (size_t i = 0; i < SIZE; i++)
		bytes[i] = (unsigned char)((i / 1000) % 3 ? i * 7 + i / 256 : 0);
	memset(bytes + 4096, 0, 2 * 4096);
	memset(bytes + SIZE - 20, 0, 20);
}

static uint64_t hash_in_pieces(const unsigned char *bytes, size_t size, size_t piece)
{
	struct checksum_content *c;
	uint64_t hash;

	assert_int_equal(checksum_content_new(&c), 0);
	for (size_t at = 0; at < size; at += piece)
		checksum_content_add(c, bytes + at, piece < size - at ? piece : size - at, at);
	hash = checksum_content_end(c, size);
	checksum_content_free(c);
	return hash;
}

static void content_hash_does_not_depend_on_cuts(void **state)
{
	static const size_t pieces[] = {1, 2, 7, 77, 511, 4095, 4096, 4097, 8192, 10000, SIZE};
	unsigned char bytes[SIZE];
	uint64_t want;

	fill(bytes);
	want = hash_in_pieces(bytes, SIZE, SIZE);
	for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
		assert_int_equal(hash_in_pieces(bytes, SIZE, pieces[i]), want);
}

static void content_hash_does_not_depend_on_holes(void **state)
{
	static const size_t granules[] = {1, 3, 100, 4096, 5000};
	unsigned char bytes[SIZE];
	uint64_t want;

	fill(bytes);
	want = hash_in_pieces(bytes, SIZE, SIZE);
	for (size_t g = 0; g < ARRAY_LEN(granules); g++) {
		struct checksum_content *c;

		assert_int_equal(checksum_content_new(&c), 0);
		checksum_content_add(c, "another file", 12, 3);
		checksum_content_reset(c);
		for (size_t at = 0; at < SIZE; at += granules[g]) {
			size_t len = granules[g] < SIZE - at ? granules[g] : SIZE - at;
			size_t zeros = 0;

			while (zeros < len && bytes[at + zeros] == 0)
				zeros++;
			if (zeros < len)
				checksum_content_add(c, bytes + at, len, at);
		}
		assert_int_equal(checksum_content_end(c, SIZE), want);
		checksum_content_free(c);
	}
}

static void content_hash_tells_files_apart(void **state)
{
	static unsigned char zeros[3 * 4096];
	unsigned char bytes[SIZE];
	uint64_t want;

	fill(bytes);
	want = hash_in_pieces(bytes, SIZE, SIZE);
	for (size_t at = 0; at < SIZE; at += 611) {
		bytes[at] ^= 0x10;
		assert_int_not_equal(hash_in_pieces(bytes, SIZE, SIZE), want);
		bytes[at] ^= 0x10;
	}
	assert_int_not_equal(hash_in_pieces(bytes, SIZE - 1, SIZE), want);
	for (size_t size = 0; size < sizeof(zeros); size += 1024)
		assert_int_not_equal(hash_in_pieces(zeros, size, 4096), hash_in_pieces(zeros, size + 1, 4096));
}

static void content_hash_knows_where_a_block_is(void **state)
{
	static unsigned char bytes[4 * 4096];
	uint64_t seen[4];

	for (size_t block = 0; block < 4; block++) {
		memset(bytes, 0, sizeof(bytes));
		bytes[block * 4096 + 9] = 1;
		seen[block] = hash_in_pieces(bytes, sizeof(bytes), 4096);
		for (size_t before = 0; before < block; before++)
			assert_int_not_equal(seen[block], seen[before]);
	}
}

static void hashes_are_those_of_the_formats(void **state)
{
	/* From xxhash's own specification: empty input, seed 0. */
	assert_true(checksum64("", 0, 0) == UINT64_C(0x2d06800538d394c2));
	assert_true(checksum128("", 0).low == UINT64_C(0x6001c324468d497f));
	assert_true(checksum128("", 0).high == UINT64_C(0x99aa06d3014798d8));
	assert_true(checksum64("a", 1, 1) != checksum64("a", 1, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(content_hash_does_not_depend_on_cuts),
		cmocka_unit_test(content_hash_does_not_depend_on_holes),
		cmocka_unit_test(content_hash_tells_files_apart),
		cmocka_unit_test(content_hash_knows_where_a_block_is),
		cmocka_unit_test(hashes_are_those_of_the_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
