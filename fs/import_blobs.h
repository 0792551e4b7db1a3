/* import_blobs: the files of an image layout, in a directory or in a tar archive of one, or of what `docker save` made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "import_meter.h"
#include "import_report.h"
#include "import_source.h"

struct import_blobs;

/* A file: len bytes of fd, from at. */
struct import_blob {
	int fd;
	uint64_t at, len;
};

/*
 * 1 when the source is a tar archive that begins as one of an image does, 0 when it is anything else, or -errno. It is at its
 * beginning afterwards. Errors are written to report, but not -ECANCELED.
 */
int import_blobs_look(struct import_source *source, const struct import_report *report);

/* True when the directory fd has an image layout. */
bool import_blobs_is_layout(int fd);

/*
 * An archive's files are unpacked into a nameless file below root. source and root stay the caller's. Errors are written to
 * report.
 */
int import_blobs_new(struct import_source *source, int root, const struct import_report *report,
                     struct import_meter *meter, struct import_blobs **out);

/* Of a directory; takes fd on success. */
int import_blobs_new_dir(int fd, const struct import_report *report, struct import_meter *meter,
                         struct import_blobs **out);
void import_blobs_free(struct import_blobs *b);

/* A regular file by its path in the layout; fd is the caller's. 0 or -errno. */
int import_blobs_open(const struct import_blobs *b, const char *path, struct import_blob *out);
