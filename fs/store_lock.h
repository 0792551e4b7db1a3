/*
 * store_lock: one process at a time changes a session.
 *
 * session/lock is locked with flock(2) by the daemon or by one command at a time, and holds the holder's pid and what the kernel
 * shows of the last mount, by which that is known wherever it and the session were moved to. Commands that only look share it and
 * leave no pid. The program that mounts for the daemon, fusermount3, has the lock along with it: when
 * the daemon is killed at that moment nobody else mounts there until that program has ended.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "session.h"

enum { STORE_LOCK_DEVICE = 24 };

struct store_lock_note {
	pid_t pid;                      /* of who has the lock, or had it last; 0: nobody's */
	char device[STORE_LOCK_DEVICE]; /* "major:minor"; empty: never mounted */
	char session[PATH_MAX];         /* its path then */
};

/* What the file says; zeros when there is none (an fd of less than 0). */
struct store_lock_note store_lock_read(int fd);

/* It is mounted; session: its path. 0 or -errno. */
int store_lock_tell(int fd, const char *device, const char *session);

/*
 * Locks it; *out is the descriptor that holds the lock until it is closed, and stays as it is when there is no such file and
 * the caller only looks. Waits for a moment for a holder that may be ending, and longer, but not for ever, for what a dead one has
 * left running. Errors are written to log: -EBUSY when another has it (the message names its pid, unless it only looks); -EUCLEAN
 * when it is no regular file; -errno of open(2) and flock(2).
 */
int store_lock(const struct session *s, bool look, int *out, const struct log *log);
