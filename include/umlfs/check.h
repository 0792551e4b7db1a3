/*
 * check: looks a base or a session over and says what is wrong with it, as fsck(8) does for a file system.
 *
 * Of a base: the index and the tree beneath it (types, sizes, times). Of a session: the manifest, the copy of
 * the base's index, the journal and the content files of every layer, and the tree that each snapshot and the
 * session itself shows. The bytes of files are not read.
 */
#pragma once

#include <stddef.h>

#include "umlfs/finding.h"
#include "umlfs/log.h"

struct check_options {
	const char *path; /* an imported base, or a session that is not mounted */
	/*
	 * Mend what can be mended without taking anything that some state names: else nothing at all on disk
	 * is changed. Nothing of a base can be mended.
	 */
	bool repair;
	const struct log *log;
	/* Called for each finding, in order, when all is done; the finding is valid during the call. */
	void (*found)(void *arg, const struct finding *finding);
	void *arg;
};

struct check_result {
	bool is_base;
	size_t n_found, n_mended;
};

/*
 * 0 when it could be looked over, whatever was found. Errors are written to log, and nothing is told: -ENOENT,
 * -ENOTDIR: no such path; -EINVAL: neither a session nor an imported base; -EBUSY: the session is mounted or in
 * use, the message names the process; -EPROTONOSUPPORT: made by a newer version; -EACCES, -EIO and what else
 * the host answers.
 */
int check_run(const struct check_options *options, struct check_result *result);
