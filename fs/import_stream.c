/*
 * import_stream: owns the decompressors between the source and the archive's format.
 * Invariant: the reader of the format never sees the end before the decompressors have seen, and checked,
 * theirs.
 * Called by import_archive and import_blobs.
 */
#include "import_stream.h"

#include <archive.h>
#include <errno.h>
#include <stdlib.h>

#include "import_gzip.h"

/*
 * A libarchive handle of its own, of format "raw", does the decompressing: a handle that reads tar stops at
 * the archive's end mark and leaves what follows, with the compressor's checksum in it, unread.
 */
struct import_stream {
	struct import_source *source;
	struct import_gzip *gzip; /* NULL: something else, or nothing */
	struct archive *raw;
	bool open, done;
	int r;
	const char *why;
};

static la_ssize_t give(struct archive *a, void *arg, const void **out)
{
	struct import_stream *s = arg;
	ssize_t n = s->gzip ? import_gzip_read(s->gzip, out, &s->why) : import_source_read(s->source, out);

	if (n >= 0)
		return n;
	s->r = (int)n;
	archive_set_error(a, -s->r, "%s", s->why ? s->why : "read error");
	return ARCHIVE_FATAL;
}

static int support(struct archive *a)
{
	/* By name: "all" starts programs of the host for some of them. */
	int (*const filters[])(struct archive *) = {
		archive_read_support_filter_bzip2, archive_read_support_filter_compress,
		archive_read_support_filter_gzip,  archive_read_support_filter_lz4,
		archive_read_support_filter_lzip,  archive_read_support_filter_lzma,
		archive_read_support_filter_xz,    archive_read_support_filter_zstd,
	};

	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
		if (filters[i](a) < ARCHIVE_WARN)
			return -ENOMEM;
	}
	if (archive_read_support_format_raw(a) != ARCHIVE_OK || archive_read_support_format_empty(a) != ARCHIVE_OK)
		return -ENOMEM;
	return 0;
}

int import_stream_new(struct import_source *source, struct import_stream **out)
{
	struct import_stream *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	s->source = source;
	s->raw = archive_read_new();
	r = s->raw ? support(s->raw) : -ENOMEM;
	if (r == 0)
		r = import_gzip_is(source);
	if (r > 0)
		r = import_gzip_new(source, &s->gzip);
	if (r < 0) {
		import_stream_free(s);
		return r;
	}
	*out = s;
	return 0;
}

void import_stream_free(struct import_stream *s)
{
	if (!s)
		return;
	archive_read_free(s->raw);
	import_gzip_free(s->gzip);
	free(s);
}

/* Keeps what the handle says, unless the cause lies below it. */
static int fail(struct import_stream *s)
{
	if (s->r == 0) {
		s->r = archive_errno(s->raw) == ENOMEM ? -ENOMEM : -EUCLEAN;
		s->why = archive_error_string(s->raw);
	}
	return s->r;
}

static int start(struct import_stream *s)
{
	struct archive_entry *entry;
	int r = archive_read_open(s->raw, s, NULL, give, NULL);

	s->open = true;
	if (r == ARCHIVE_OK)
		r = archive_read_next_header(s->raw, &entry);
	s->done = r == ARCHIVE_EOF;
	return r < ARCHIVE_WARN ? fail(s) : 0;
}

ssize_t import_stream_read(struct import_stream *s, const void **out)
{
	la_int64_t offset;
	size_t len = 0;

	if (s->r < 0)
		return s->r;
	if (!s->open && start(s) < 0)
		return s->r;
	while (len == 0 && !s->done) {
		int r = archive_read_data_block(s->raw, out, &len, &offset);

		if (r < ARCHIVE_WARN)
			return fail(s);
		s->done = r == ARCHIVE_EOF;
	}
	return (ssize_t)len;
}

int import_stream_failure(const struct import_stream *s, const char **why_out)
{
	if (s->r == -EUCLEAN)
		*why_out = s->why;
	return s->r;
}
