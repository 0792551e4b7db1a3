/* export: a state of a session as a tar archive. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "umlfs/log.h"
#include "umlfs/progress.h"

struct export_options {
	const char *source; /* a session, or SESSION@SNAPSHOT; SESSION@@base is the base */
	/*
	 * The archive: replaced in one step when it is whole; written in place when it is no regular file. "-": standard
	 * output. What ends in .gz, .tgz, .xz, .txz, .zst or .tzst is compressed; a name that promises another compression or
	 * format is refused.
	 */
	const char *file;
	bool layer;       /* what changed since `from`, as a layer of the OCI image format, instead of everything */
	const char *from; /* a snapshot's name, "@base" or NULL, which is the base */
	bool has_epoch;
	int64_t epoch; /* seconds: later times become this one, and no time of a change of an inode is told */
	const struct log *log;
	int (*progress)(void *arg, const struct progress *progress); /* as of import_options */
	void *progress_arg;
	/*
	 * Told what has to go when the process dies on the way, as soon as it is there, and NULL when it has its name or has
	 * gone; may be NULL.
	 */
	void (*temporary)(const char *path);
};

struct export_result {
	uint64_t entries, bytes; /* bytes: sizes of the regular files added up, each inode once */
};

/*
 * Writes the pax format: all that a base can hold but sockets, which tar has not: they are left out with a warning. The
 * same state gives the same bytes. Errors are written to log: -ENOENT no such session or snapshot, -EINVAL a file name that
 * promises something else, or a name that the archive cannot hold, or a layer cannot, or cannot tell is gone, -ECANCELED
 * progress() said stop (not logged), of reading, of writing.
 */
int export_run(const struct export_options *options, struct export_result *result);
