/* import_digest: whether the bytes of a blob are those that its name promises. */
#pragma once

#include "import_blobs.h"
#include "import_meter.h"

enum {
	IMPORT_SHA256_HEX = 64, /* digits */
	IMPORT_SHA512_HEX = 128,
};

/* Reads the whole blob. 0, -EBADMSG when its digest is another one than hex, -ECANCELED, or -errno of reading. */
int import_digest_compare(const struct import_blob *blob, bool is_512, const char *hex, struct import_meter *meter);
