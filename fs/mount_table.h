/* mount_table: what mounts and unmount share: how a mount and its session are found, though one of them was moved. */
#pragma once

#include "store_lock.h"
#include "umlfs/mounts.h"

/* As mounts_each(), of the mount table `path` (proc_pid_mountinfo(5)). */
int mount_table_each(const char *path, int (*visit)(void *arg, const struct mount_info *mount), void *arg);

/*
 * A mount is known by the path that its session had, and by its device. The session may have been moved meanwhile, and there may be
 * another one in its place; and the number of a device that is unmounted is soon another one's.
 */
struct mount_search {
	const char *session;
	const char *device; /* "" for any */
	bool moved;         /* the session is elsewhere now */
	char *found;        /* the mountpoint, on the heap */
};

/* Visitor: 1 when it has found. arg: a struct mount_search. */
int mount_table_match(void *arg, const struct mount_info *mount);

/* What the kernel shows of a mountpoint. */
struct mount_place {
	const char *mountpoint;
	char device[STORE_LOCK_DEVICE];
	char session[PATH_MAX]; /* by the path that it had */
	uid_t user;
};

/* What is mounted there; out->mountpoint is borrowed. 0, -ENOENT, -errno. */
int mount_table_find(const char *mountpoint, struct mount_place *out);

/* Opens the session's lock, which the daemon holds until it has ended: a descriptor, or -errno. */
int mount_table_lock(const char *session);

/* True when the session's last mount had this device. */
bool mount_table_has_device(int lock, const char *device);
