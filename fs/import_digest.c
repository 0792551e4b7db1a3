/*
 * import_digest: owns nothing; works out digests.
 * Invariant: the bytes of a blob are compared to the last one, or it is no match.
 * Called by import_image.
 */
#include "import_digest.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

enum { CHUNK = 256 << 10 };

static void to_hex(const uint8_t *bytes, size_t len, char *text)
{
	for (size_t i = 0; i < len; i++)
		snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

int import_digest_compare(const struct import_blob *blob, bool is_512, const char *hex, struct import_meter *meter)
{
	cleanup_free uint8_t *chunk = malloc(CHUNK);
	uint8_t sum[SHA512_DIGEST_SIZE];
	char found[IMPORT_SHA512_HEX + 1];
	struct sha256_ctx sha256;
	struct sha512_ctx sha512;
	uint64_t at = 0;

	if (!chunk)
		return -ENOMEM;
	sha256_init(&sha256);
	sha512_init(&sha512);
	while (at < blob->len) {
		size_t want = blob->len - at < CHUNK ? (size_t)(blob->len - at) : CHUNK;
		ssize_t n = pread(blob->fd, chunk, want, (off_t)(blob->at + at));
		int r;

		if (n <= 0)
			return n < 0 ? -errno : -EBADMSG;
		if (is_512)
			sha512_update(&sha512, (size_t)n, chunk);
		else
			sha256_update(&sha256, (size_t)n, chunk);
		at += (uint64_t)n;
		r = import_meter_work(meter, (uint64_t)n);
		if (r < 0)
			return r;
	}
	if (is_512)
		sha512_digest(&sha512, SHA512_DIGEST_SIZE, sum);
	else
		sha256_digest(&sha256, SHA256_DIGEST_SIZE, sum);
	to_hex(sum, is_512 ? SHA512_DIGEST_SIZE : SHA256_DIGEST_SIZE, found);
	return strcmp(found, hex) == 0 ? 0 : -EBADMSG;
}
