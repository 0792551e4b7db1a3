/*
 * standing: owns nothing; compares a base with those that sessions tell of.
 * Invariant: changes nothing, and asks no daemon, which may be dead or at rest.
 * Called by import_place and base_commit.
 */
#include "standing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>

#include "cleanup.h"
#include "format.h"
#include "index.h"
#include "io.h"
#include "manifest.h"
#include "umlfs/mounts.h"

enum has {
	HAS_ANOTHER,
	HAS_IT,
	HAS_UNKNOWN, /* there is none, or it cannot be read */
};

static enum has has_index(int dirfd, struct checksum_id id)
{
	struct checksum_id found;
	struct index *index;

	if (dirfd < 0 || index_open(dirfd, FORMAT_OWN_DIR "/index", "", NULL, &index) < 0)
		return HAS_UNKNOWN;
	found = index_id(index);
	index_free(index);
	return found.low == id.low && found.high == id.high ? HAS_IT : HAS_ANOTHER;
}

/*
 * The index tells which base it is, and of those that are the same where the session had its base last; if none is there any more,
 * any may be it. Where it was last a base counts also when its index cannot be read.
 */
static bool stands_on(int sessionfd, const struct standing_base *base)
{
	cleanup_fd int last = -1;
	struct manifest m;
	enum has has;
	bool stands;

	if (manifest_read(sessionfd, "", NULL, &m) < 0)
		return false;
	last = open(m.base_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	has = has_index(base->fd, m.base);
	if (io_is_same(last, base->fd) || io_is_same(last, base->instead))
		stands = has != HAS_ANOTHER;
	else
		stands = has == HAS_IT && has_index(last, m.base) != HAS_IT;
	manifest_fini(&m);
	return stands;
}

int standing_check_session(const struct standing_base *base, int sessionfd, const char *label, const struct log *log)
{
	if (!stands_on(sessionfd, base))
		return 0;
	return log_error(log, -EBUSY,
	                 "%s: is the base of %s, which would be lost with it: give the new base another name",
	                 base->label, label);
}

struct check {
	const struct standing_base *base;
	const struct log *log;
};

static int check_mount(void *arg, const struct mount_info *mount)
{
	const struct check *check = arg;
	char path[PATH_MAX];
	cleanup_fd int sessionfd =
		mounts_session_of(mount, path) < 0 ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (sessionfd < 0 || !stands_on(sessionfd, check->base))
		return 0;
	return log_error(check->log, -EBUSY,
	                 "%s: is the base of %s, which is mounted: unmount that, or give the new base another name",
	                 check->base->label, path);
}

int standing_check(const struct standing_base *base, const struct log *log)
{
	struct check check = {.base = base, .log = log};

	/* Where there is no mount table to be read, no session is known of. */
	return mounts_each(check_mount, &check) == -EBUSY ? -EBUSY : 0;
}
