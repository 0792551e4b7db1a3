/* import_blobs: the files of an image layout, in a directory or in a tar archive of one, or of what `docker save` made. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "import_meter.h"
#include "import_report.h"

struct import_blobs;

/*
 * 1 when fd is of a directory with an image layout, or of a tar file, also in a pipe, that begins as one of an image does;
 * else 0, or -errno.
 */
int import_blobs_look(int fd, struct import_meter *meter);

/*
 * Takes fd on success. An archive's files are unpacked into nameless files below root, which stays the caller's. Errors are
 * written to report.
 */
int import_blobs_new(int fd, int root, const struct import_report *report, struct import_meter *meter,
                     struct import_blobs **out);
void import_blobs_free(struct import_blobs *b);

/* A regular file by its path in the layout, to be read from its beginning: a descriptor of the caller's, or -errno. */
int import_blobs_open(const struct import_blobs *b, const char *path);
