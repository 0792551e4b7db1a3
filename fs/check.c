/*
 * check: finds out whether it is given a base or a session, has it looked over, and tells what was found.
 * Invariant: nothing is told when the look itself failed.
 * Called by the program.
 */
#include "umlfs/check.h"

#include <errno.h>
#include <fcntl.h>

#include "check_base.h"
#include "check_session.h"
#include "cleanup.h"
#include "format.h"

static bool has(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int look(const struct check_options *o, struct findings *findings, bool *is_base_out)
{
	cleanup_fd int dirfd = open(o->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dirfd < 0 && errno == ENOENT)
		return log_error(o->log, -ENOENT, "%s: no such session or base: give the path of one", o->path);
	if (dirfd < 0 && errno == ENOTDIR)
		return log_error(o->log, -ENOTDIR, "%s: is no directory: give that of a session or a base", o->path);
	if (dirfd < 0)
		return log_errno(o->log, -errno, "%s", o->path);
	*is_base_out = has(dirfd, FORMAT_OWN_DIR);
	if (*is_base_out)
		return check_base(dirfd, o->path, o->log, findings);
	if (!has(dirfd, "manifest") && !has(dirfd, "layers"))
		return log_error(o->log, -EINVAL,
		                 "%s: is no session, and no imported base: give the path of one (a plain directory as "
		                 "base has no index to be checked)",
		                 o->path);
	return check_session(o->path, o->repair, o->log, findings);
}

int check_run(const struct check_options *options, struct check_result *result)
{
	struct check_result counts = {0};
	struct findings findings = {0};
	int r = look(options, &findings, &counts.is_base);

	if (r == 0 && findings.no_memory)
		r = log_errno(options->log, -ENOMEM, "%s", options->path);
	for (size_t i = 0; r == 0 && i < findings.n; i++) {
		counts.n_found++;
		counts.n_mended += findings.list[i].shown.mended;
		options->found(options->arg, &findings.list[i].shown);
	}
	findings_fini(&findings);
	if (r == 0)
		*result = counts;
	return r;
}
