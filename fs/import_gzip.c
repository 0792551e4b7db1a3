/*
 * import_gzip: owns an inflate stream and its output.
 * Invariant: the end is told only after every member's CRC and length were right.
 * Called by import_stream.
 */
#include "import_gzip.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
	OUT = 256 << 10,
	GZIP_WINDOW = MAX_WBITS + 16, /* zlib.h: 16 asks for the gzip header and trailer */
	MAGIC_LEN = 2,
};

struct import_gzip {
	struct import_source *source;
	z_stream z;
	bool between; /* in front of a member, or of the end */
	bool done;
	unsigned char out[OUT];
};

int import_gzip_is(struct import_source *source)
{
	const unsigned char *magic;
	ssize_t n = import_source_peek(source, MAGIC_LEN, &magic);

	if (n < 0)
		return (int)n;
	return n == MAGIC_LEN && magic[0] == 0x1f && magic[1] == 0x8b;
}

int import_gzip_new(struct import_source *source, struct import_gzip **out)
{
	struct import_gzip *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->source = source;
	if (inflateInit2(&g->z, GZIP_WINDOW) != Z_OK) {
		free(g);
		return -ENOMEM;
	}
	*out = g;
	return 0;
}

void import_gzip_free(struct import_gzip *g)
{
	if (!g)
		return;
	inflateEnd(&g->z);
	free(g);
}

/* Makes input available: how many bytes there are, 0 at the end, -errno. */
static ssize_t feed(struct import_gzip *g)
{
	const void *bytes;
	ssize_t n;

	if (g->z.avail_in > 0)
		return (ssize_t)g->z.avail_in;
	n = import_source_read(g->source, &bytes);
	if (n < 0)
		return n;
	/* zlib does not write to its input, though without ZLIB_CONST its header does not say so. */
	g->z.next_in = (unsigned char *)(uintptr_t)bytes;
	g->z.avail_in = (unsigned int)n;
	return n;
}

/* Several members one after another are one file (RFC 1952, 2.2); anything else behind a member is padding.
 */
static int next_member(struct import_gzip *g)
{
	ssize_t n = feed(g);

	if (n < 0)
		return (int)n;
	g->done = n == 0 || g->z.next_in[0] != 0x1f;
	if (!g->done)
		inflateReset(&g->z);
	g->between = false;
	return 0;
}

/* One call of inflate(): 0 or -errno. */
static int unpack(struct import_gzip *g, const char **why_out)
{
	ssize_t n = feed(g);

	if (n < 0)
		return (int)n;
	if (n == 0) {
		*why_out = "the gzip data ends early";
		return -EUCLEAN;
	}
	switch (inflate(&g->z, Z_NO_FLUSH)) {
	case Z_OK:
	case Z_BUF_ERROR:
		return 0;
	case Z_STREAM_END:
		g->between = true;
		return 0;
	case Z_MEM_ERROR:
		return -ENOMEM;
	default:
		*why_out = "the gzip data is damaged";
		return -EUCLEAN;
	}
}

ssize_t import_gzip_read(struct import_gzip *g, const void **out, const char **why_out)
{
	g->z.next_out = g->out;
	g->z.avail_out = OUT;
	while (g->z.avail_out > 0 && !g->done) {
		int r = g->between ? next_member(g) : unpack(g, why_out);

		if (r < 0)
			return r;
	}
	*out = g->out;
	return (ssize_t)(OUT - g->z.avail_out);
}
