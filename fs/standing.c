/*
 * standing: owns nothing; compares a base with those that sessions tell of.
 * Invariant: changes nothing, and asks no daemon, which may be dead or at rest.
 * Called by import_place and base_commit.
 */
#include "standing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "format.h"
#include "index.h"
#include "manifest.h"
#include "umlfs/mounts.h"

static bool is_same_directory(const char *a, const char *b)
{
	struct stat one, other;

	return stat(a, &one) == 0 && stat(b, &other) == 0 && one.st_dev == other.st_dev && one.st_ino == other.st_ino;
}

static bool has_index(const char *base, struct checksum_id id)
{
	cleanup_fd int dirfd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct checksum_id found;
	struct index *index;

	if (dirfd < 0 || index_open(dirfd, FORMAT_OWN_DIR "/index", base, NULL, &index) < 0)
		return false;
	found = index_id(index);
	index_free(index);
	return found.low == id.low && found.high == id.high;
}

/* By where the session had its base last; if it is not there any more, a base that is the same is taken for it. */
static bool stands_on(int sessionfd, const char *base)
{
	struct manifest m;
	bool stands;

	if (manifest_read(sessionfd, "", NULL, &m) < 0)
		return false;
	stands = is_same_directory(m.base_path, base) || (has_index(base, m.base) && !has_index(m.base_path, m.base));
	manifest_fini(&m);
	return stands;
}

int standing_check_session(const char *base, int sessionfd, const char *label, const struct log *log)
{
	if (!stands_on(sessionfd, base))
		return 0;
	return log_error(log, -EBUSY,
	                 "%s: is the base of %s, which would be lost with it: give the new base another name", base,
	                 label);
}

struct check {
	const char *base;
	const struct log *log;
};

static int check_mount(void *arg, const struct mount_info *mount)
{
	const struct check *check = arg;
	cleanup_fd int sessionfd = open(mount->session, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (sessionfd < 0 || !stands_on(sessionfd, check->base))
		return 0;
	return log_error(check->log, -EBUSY,
	                 "%s: is the base of %s, which is mounted: unmount that, or give the new base another name",
	                 check->base, mount->session);
}

int standing_check(const char *base, const struct log *log)
{
	struct check check = {.base = base, .log = log};

	/* Where there is no mount table to be read, no session is known of. */
	return mounts_each(check_mount, &check) == -EBUSY ? -EBUSY : 0;
}
