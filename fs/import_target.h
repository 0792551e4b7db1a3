/*
 * import_target: the base while it is made: host directories and files, and the index's nodes, side by side.
 *
 * Every function that takes a member writes its errors to the report with the member's name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "import_member.h"
#include "import_report.h"
#include "umlfs/import.h"

struct import_target;

/* root is an empty directory of the host; it and report are borrowed. */
int import_target_new(int root, const struct import_report *report, struct import_target **out);
void import_target_free(struct import_target *t);

/*
 * Gives the member its place, and directories to it where there are none. What stands in that place goes, but
 * a directory stays for a directory. A regular file is open from then on and wants import_target_end().
 * -EPERM for a path through something that is no directory and for a directory with entries that something
 * else would replace.
 */
int import_target_add(struct import_target *t, const struct import_member *m);

/* Gives the file at path `to` one more name. -EUCLEAN when it is not there, -EPERM when it is a directory. */
int import_target_link(struct import_target *t, const struct import_member *m, const char *to, size_t len);

/* Opens the regular file that the member links to, which import_target_link() has just found, to be written
 * anew. */
int import_target_rewrite(struct import_target *t, const struct import_member *m);

/* Bytes of the open file, by growing offsets. */
int import_target_write(struct import_target *t, const struct import_member *m, const void *bytes, size_t len,
                        uint64_t offset);

/* The open file is complete and of this size. */
int import_target_end(struct import_target *t, const struct import_member *m, uint64_t size);

/*
 * The open file gets the size bytes of the host's file fd, whose checksum is known, and is complete. Shares blocks where
 * the file system can.
 */
int import_target_clone(struct import_target *t, const struct import_member *m, int fd, uint64_t size,
                        uint64_t checksum);

/*
 * import_remove.c: takes away what stands at a path, with all below; below: only what is below, if it is a directory. That
 * nothing is there is no error.
 */
int import_target_remove(struct import_target *t, const struct import_member *m, const char *path, size_t len,
                         bool below);

/* True when a directory stands at the member's path. */
bool import_target_has_dir(const struct import_target *t, const struct import_member *m);

/* Where the open file ends so far. */
uint64_t import_target_written(const struct import_target *t);

/* Writes the index below the root. Nothing may be added after it. */
int import_target_index(struct import_target *t, struct import_result *result);
