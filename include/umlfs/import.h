/*
 * import: an archive, or a directory, as a base.
 *
 * A base is a directory that holds the tree's files under their own paths and, in .umlfs/index, everything that the host would
 * not let an ordinary user keep: owners, modes, device numbers, extended attributes. The host's files are private to whoever
 * imported (0600 and 0700).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "umlfs/log.h"

struct import_progress {
	uint64_t bytes_read; /* of the archive, as it lies on disk */
	uint64_t bytes_total; /* 0: not known (standard input) */
	uint64_t entries;
};

struct import_options {
	const char *source; /* path of an archive or a directory; "-": an archive from standard input */
	const char *base;   /* path of the base to make; its parent directory must be there */
	bool force;         /* replace a base that is there; anything that is no base is refused all the same */
	const struct log *log;
	/* Called now and then from the calling thread; may be NULL. */
	void (*progress)(void *arg, const struct import_progress *progress);
	void *progress_arg;
};

struct import_result {
	uint64_t entries; /* names in the base */
	uint64_t bytes;   /* sizes of its regular files added up, each inode once */
};

/*
 * Makes the base in a temporary directory beside it and renames that: it is there whole and on disk, or not at all. Errors are
 * written to log with the member's name:
 *   -EEXIST     the base is there (and force was not given), or the path is taken by something that is no base
 *   -ENOENT     no such source, or no directory to put the base in
 *   -EPERM      a member that no base may hold: "..", a path through a symlink, umlfs's own folder, an encrypted member
 *   -EUCLEAN    the archive is truncated, damaged, empty, or no archive
 *   -ENOSPC and what else the host's file system answers
 */
int import_run(const struct import_options *options, struct import_result *result);
