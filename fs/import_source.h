/* import_source: the bytes of an archive as they lie on disk or come through a pipe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "import_meter.h"

struct import_source;

/* Takes fd on success; meter is borrowed and told of every byte. */
int import_source_new(int fd, struct import_meter *meter, struct import_source **out);

/* Of a regular file the bytes from at, so many. Takes fd on success; where that stands neither matters nor changes. */
int import_source_new_part(int fd, uint64_t at, uint64_t len, struct import_meter *meter, struct import_source **out);
void import_source_free(struct import_source *s);

/*
 * What is read from here on comes once more behind import_source_rewind(), and is told to the meter only then. For a source
 * without any byte taken. Of a pipe that is kept in memory: what wants more of it than 64 MiB gets -E2BIG.
 */
void import_source_look(struct import_source *s);
int import_source_rewind(struct import_source *s);

/* The first bytes, at most len, without taking them: how many there are, or -errno. len is at most 64 KiB. */
ssize_t import_source_peek(struct import_source *s, size_t len, const unsigned char **out);

/* The next bytes, valid until the next call: how many, 0 at the end, -ECANCELED, or -errno. */
ssize_t import_source_read(struct import_source *s, const void **out);

/* True when import_source_seek() works. */
bool import_source_seekable(const struct import_source *s);

/* As lseek(2). */
int64_t import_source_seek(struct import_source *s, int64_t offset, int whence);
