/* serve: mounts a session and answers the kernel until it is unmounted. */
#pragma once

#include <stdbool.h>

#include "umlfs/log.h"

struct serve_options {
	const char *base;       /* an imported base or a plain extracted directory */
	const char *session;    /* made when it is not there */
	const char *mountpoint; /* an empty directory; NULL: the session's own, session/rootfs */
	bool posix;             /* profile for host processes: permissions checked, xattrs, allow_other */
	bool xattr;             /* show extended attributes in the guest profile too */
	bool owner_caller;      /* new files belong to who makes them, not to their directory's owner */
	bool allow_other;       /* other users may enter: mount.fuse3(8) */
	bool read_only;
	bool throw_away; /* the session will be removed: nothing needs to be on disk in the end */
	bool nosuid, nodev,
		noexec; /* as mount(8) has them; nosuid and nodev are so for an ordinary user, and without posix */
	unsigned long long bytes_max;  /* what the session's files may take on the host; 0: as much as there is */
	unsigned long long inodes_max; /* files that may be made in the session; 0: as many as there is room for */
	/* Gets errors until the mount answers, then also what goes wrong while it serves. */
	const struct log *log;
	/*
	 * Called once, when the base is known and the session loaded, which can take long on a plain
	 * directory; may be NULL.
	 */
	void (*opened)(void *arg);
	/* Called once, when the mount answers. Both get ready_arg. */
	void (*ready)(void *arg, const char *mountpoint);
	void *ready_arg;
};

/*
 * Returns when the session has been unmounted and everything is on disk: 0. SIGTERM, SIGINT and SIGHUP
 * unmount it. Must be called before the process has threads. Errors are written to log; besides those of
 * opening the session (busy, no base, another base, damage) they are: -ENOTEMPTY, -EBUSY, -EINVAL for a
 * mountpoint that will not do; -ENOENT, -EACCES for /dev/fuse and fusermount3.
 */
int serve_run(const struct serve_options *options);
