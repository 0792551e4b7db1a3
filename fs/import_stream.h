/* import_stream: the bytes of a tar or cpio archive, out of whatever they are compressed with. */
#pragma once

#include "import_source.h"

struct import_stream;

/* source is borrowed. Data that cannot be read is an error of the first import_stream_read(). */
int import_stream_new(struct import_source *source, struct import_stream **out);
void import_stream_free(struct import_stream *s);

/*
 * The next bytes, valid until the next call: how many, 0 at the end of everything, or -errno; -EUCLEAN for
 * compressed data that is damaged or cut short. The end is told only after all checksums were right.
 */
ssize_t import_stream_read(struct import_stream *s, const void **out);

/* What the last failure was: -errno, 0 when there was none; and for -EUCLEAN in words, which live as long as
 * the stream. */
int import_stream_failure(const struct import_stream *s, const char **why_out);
