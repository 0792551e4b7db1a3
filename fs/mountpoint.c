/*
 * mountpoint: makes sure that a mount can be made and hides nothing.
 * Invariant: before a mount whose daemon may be dead is detached, it is asked only whether anybody answers.
 * Called by serve.
 */
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "io.h"
#include "mount_table.h"
#include "umlfs/mounts.h"
#include "umlfs/programs.h"

enum { STALE_MAX = 16 }; /* more mounts of one dead session than anybody has */

/* Detaches what a dead daemon left: the caller holds the session's lock, so no daemon is alive. */
static int detach_stale(const struct store *store, const struct log *log)
{
	for (int i = 0; i < STALE_MAX; i++) {
		cleanup_free char *stale = NULL;
		int r = mounts_find_session(store->path, &stale);

		if (r < 0 || mounts_answers(stale)) /* one that answers is that of another session, which was here */
			return 0;
		r = mounts_unmount(stale, true, log);
		if (r < 0)
			return r;
		log_note(log, "%s: the daemon of this mount was dead: detached", stale);
	}
	return 0;
}

static int check_empty(const char *path, const struct log *log)
{
	int r = io_dir_empty(AT_FDCWD, path);

	if (mounts_means_dead(-r))
		return log_error(log, r, "%s: a mount whose daemon is dead: take it away with `fusermount3 -u %s`",
		                 path, path);
	if (r == -ENOTEMPTY)
		return log_error(log, r, "%s: is not empty: give an empty directory as mountpoint", path);
	if (r == -ENOTDIR)
		return log_error(log, r, "%s: is no directory: give an empty directory as mountpoint", path);
	return r < 0 ? log_errno(log, r, "%s", path) : 0;
}

/* True for session/rootfs. */
static bool is_own(const struct store *store, const char *path)
{
	return strcmp(path + strlen(store->path), "/rootfs") == 0;
}

static int check_place(const struct store *store, const char *path, const char *base, const struct log *log)
{
	cleanup_free char *real_base = realpath(base, NULL);
	cleanup_free char *session = NULL;

	if (real_base && strcmp(path, real_base) == 0)
		return log_error(log, -EINVAL, "%s: is the base: give another directory as mountpoint", path);
	if (real_base && io_lies_in(path, real_base))
		return log_error(log, -EINVAL, "%s: lies in the base %s: give a mountpoint elsewhere", path, base);
	if (io_lies_in(store->path, path))
		return log_error(log, -EINVAL, "%s: holds the session %s: give a mountpoint elsewhere", path,
		                 store->session.label);
	if (io_lies_in(path, store->path) && !is_own(store, path))
		return log_error(log, -EINVAL, "%s: lies in the session %s: give none, or a mountpoint elsewhere", path,
		                 store->session.label);
	if (mounts_find_mountpoint(path, &session) == 0)
		return log_error(log, -EBUSY, "%s: the session %s is mounted there already", path, session);
	return check_empty(path, log);
}

int mountpoint_prepare(const struct store *store, const char *path, const char *base, const struct log *log, char **out)
{
	cleanup_free char *own = NULL;
	cleanup_free char *real = NULL;
	int r = detach_stale(store, log);

	if (r < 0)
		return r;
	if (!path) {
		if (asprintf(&own, "%s/rootfs", store->path) < 0)
			return -ENOMEM;
		path = own;
		if (mkdir(path, 0700) < 0 && errno != EEXIST)
			return log_errno(log, -errno, "%s: cannot be made", path);
	}
	real = realpath(path, NULL);
	if (!real && mounts_means_dead(errno))
		return check_empty(path, log);
	if (!real && errno == ENOENT)
		return log_error(log, -ENOENT, "%s: no such directory: make the mountpoint first", path);
	if (!real)
		return log_errno(log, -errno, "%s: cannot be the mountpoint", path);
	if (own && strcmp(real, own) != 0)
		return log_error(log, -ELOOP, "%s: is a symbolic link: remove it, or give a mountpoint", own);
	r = check_place(store, real, base, log);
	if (r == 0)
		*out = take_ptr(&real);
	return r;
}

int mountpoint_note(const struct store *store, const char *mountpoint, const struct log *log)
{
	struct mount_place place;
	int r = mount_table_find(mountpoint, &place);

	if (r == -ENOENT)
		return 0; /* unmounted meanwhile */
	if (r == 0)
		r = store_lock_tell(store->lockfd, place.device, store->path);
	if (r == -ENOSPC || r == -EDQUOT || r == -EFBIG) {
		log_warning(log, "%s: has no room for a note: `umlfs umount` takes its mountpoint only",
		            store->session.label);
		return 0;
	}
	return r < 0 ? log_errno(log, r, "%s/lock", store->session.label) : 0;
}

int mountpoint_check_fuse(const struct log *log)
{
	cleanup_fd int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	cleanup_free char *helper = NULL;

	if (fd < 0 && errno == EACCES)
		return log_error(log, -EACCES, "/dev/fuse: no permission: fix it with `sudo chmod 0666 /dev/fuse`");
	if (fd < 0)
		return log_error(log, -ENOENT, "/dev/fuse: %s: load the kernel's module with `sudo modprobe fuse`",
		                 strerror(errno));
	if (geteuid() == 0)
		return 0;
	helper = programs_find("fusermount3");
	if (!helper)
		return log_error(log, -ENOENT, "fusermount3: not found: install the package fuse3");
	if (access("/etc/mtab", R_OK) < 0 && errno != ENOENT)
		return log_errno(log, -errno, "/etc/mtab: fusermount3 needs it to unmount");
	if (access("/etc/mtab", R_OK) < 0)
		return log_error(log, -ENOENT,
		                 "/etc/mtab: without it fusermount3 unmounts nothing: fix it with `sudo ln -s "
		                 "../proc/self/mounts /etc/mtab`");
	return 0;
}
