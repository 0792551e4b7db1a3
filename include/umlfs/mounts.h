/* mounts: umlfs's mounts as the kernel shows them (proc_pid_mountinfo(5)). */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "umlfs/log.h"

struct mount_info {
	const char *session;    /* absolute path of the session; valid during the call */
	const char *mountpoint; /* absolute; valid during the call */
	const char *device;     /* "major:minor", as all mounts of one file system have it; valid during the call */
	uid_t user;             /* who mounted it */
};

/*
 * Visits each umlfs mount of this mount namespace until visit answers other than 0, and answers that. -errno
 * when it cannot.
 */
int mounts_each(int (*visit)(void *arg, const struct mount_info *mount), void *arg);

/*
 * Where the session of a mount is now: 0; -ENOENT when that is not known, because it was moved or removed, and its mountpoint is
 * not its own.
 */
int mounts_session_of(const struct mount_info *mount, char path[PATH_MAX]);

/* True when the daemon of a mount has died. False of a session that the caller may not look into. */
bool mounts_is_dead(const struct mount_info *mount);

/* False when the kernel says that the daemon of this mount is dead. Waits for one that is alive. */
bool mounts_answers(const char *mountpoint);

/* True of an errno that tells of a mount whose daemon is dead: ENOTCONN, or ECONNABORTED of what was asked when it died. */
bool mounts_means_dead(int error);

/*
 * The mountpoint of a session, on the heap: 0, -ENOENT when it is not mounted, -errno. session: absolute, no
 * symlinks; it may have been moved since it was mounted. Where that is not clear a mount is asked, see mounts_answers().
 */
int mounts_find_session(const char *session, char **mountpoint_out);

/* The session that is mounted at this place, by the path that it had then, on the heap: 0, -ENOENT, -errno. */
int mounts_find_mountpoint(const char *mountpoint, char **session_out);

/*
 * Unmounts, as root with umount2(2), else with fusermount3(1). detach: also while it is in use, or its daemon
 * is dead.
 * -EBUSY names the process that uses it; where no process is to be seen, it is tried again for a second. Errors are written to log.
 */
int mounts_unmount(const char *mountpoint, bool detach, const struct log *log);

/*
 * Ends a session's mount: unmounts it, and returns when its daemon has ended, that is, when everything is on
 * disk. what: the session or its mountpoint. A mount whose daemon is dead is detached, and that is said.
 * Errors are written to log: -ENOENT when nothing is mounted, -EPERM when another user has mounted it, -EBUSY when it is in use, or was unmounted and is also mounted
 * elsewhere in this namespace (a bind mount). Of a copy in another mount namespace (mount_namespaces(7)) it is told after 20 seconds.
 */
int mounts_end(const char *what, const struct log *log);

/*
 * Waits, but not for ever, until the daemon of a session that is no longer mounted has put everything on disk: after
 * umount(8) or fusermount3(1), which do not. Returns at once when there is none, or when the session is mounted.
 */
void mounts_settle(const char *session);
