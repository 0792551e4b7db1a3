/* import_gzip: gzip data (RFC 1952) unpacked and checked against its CRC, which libarchive leaves unread. */
#pragma once

#include <stdbool.h>

#include "import_source.h"

struct import_gzip;

/* True when the source starts as gzip data does; -errno. */
int import_gzip_is(struct import_source *source);

/* source is borrowed. */
int import_gzip_new(struct import_source *source, struct import_gzip **out);
void import_gzip_free(struct import_gzip *g);

/*
 * The next unpacked bytes, valid until the next call: how many, 0 behind the last one, or -errno; -EUCLEAN
 * for data that is cut short or does not match its checksum, with *why_out saying which. Bytes behind the
 * data are left alone.
 */
ssize_t import_gzip_read(struct import_gzip *g, const void **out, const char **why_out);
