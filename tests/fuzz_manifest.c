/*
 * fuzz_manifest: any bytes as a session's manifest.
 * Invariant: the layers that it may name are those of a session with two snapshots.
 * Called by a fuzzer or by its replay.
 */
#include "fuzz.h"

#include <inttypes.h>

#include "checksum.h"
#include "fuzz_world.h"
#include "unit.h"

enum { LAYERS = 3, END_BYTES = 21 }; /* "end", a space, 16 digits, a newline */

static const char manifest[] = "session/manifest";

/* The last line is right, if there is room for one. */
size_t fuzz_mend(unsigned char *bytes, size_t len)
{
	char end[END_BYTES + 1];
	size_t at = len < END_BYTES ? 0 : len - END_BYTES;

	if (len < END_BYTES)
		return len;
	snprintf(end, sizeof(end), "end %016" PRIx64 "\n", checksum64(bytes, at, 0));
	memcpy(bytes + at, end, END_BYTES);
	return len;
}

size_t fuzz_seed(unsigned int nr, unsigned char bytes[FUZZ_INPUT_MAX])
{
	struct world *w;
	size_t len;

	if (nr >= LAYERS)
		return 0;
	w = fuzz_begin();
	fuzz_make_session(w, nr + 1);
	len = fuzz_take(w, manifest, bytes);
	fuzz_end(w);
	return len;
}

void fuzz_one(const unsigned char *bytes, size_t len)
{
	struct world *w = fuzz_begin();

	fuzz_make_session(w, LAYERS);
	place_put(w->place.fd, manifest, bytes, len);
	fuzz_session(w);
	fuzz_end(w);
}
