/* verify: whether the bytes of an imported base are those that were imported. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "umlfs/finding.h"
#include "umlfs/log.h"
#include "umlfs/progress.h"

struct verify_options {
	const char *base;
	const struct log *log;
	/*
	 * Called for each file that is not as it was imported: kind is "missing", "type", "size", "content", or
	 * "unreadable". The finding is valid during the call.
	 */
	void (*found)(void *arg, const struct finding *finding);
	/* Called at least once for every MiB read; may be NULL. Any answer but 0 stops. */
	int (*progress)(void *arg, const struct progress *progress);
	void *arg; /* of both */
};

struct verify_result {
	uint64_t files; /* regular files, each inode once */
	uint64_t bytes; /* their sizes added up */
	uint64_t n_found;
};

/*
 * Reads every regular file, by the first of its names, and compares type, size and checksum with the index. Owners,
 * modes, links and attributes are in the index alone; files that the index has not are not looked for: that is
 * check_run()'s.
 *
 * 0 when everything was looked at, whatever was found. Errors are written to log: -ENOENT, -ENOTDIR: no such path;
 * -EINVAL: no imported base; -EUCLEAN: the index itself is damaged; -ECANCELED: progress() said stop, not logged.
 */
int verify_run(const struct verify_options *options, struct verify_result *result);
