/*
 * store_lock: one process at a time changes a session.
 *
 * session/lock is locked with flock(2) by the daemon or by one command at a time, and holds the holder's pid. Commands that
 * only look share it and leave no pid. The program that mounts for the daemon, fusermount3, has the lock along with it: when
 * the daemon is killed at that moment nobody else mounts there until that program has ended.
 */
#pragma once

#include "session.h"

/*
 * Locks it; *out is the descriptor that holds the lock until it is closed, and stays as it is when there is no such file and
 * the caller only looks. Waits for a moment for a holder that may be ending, and longer, but not for ever, for what a dead one has
 * left running. Errors are written to log: -EBUSY when another has it (the message names its pid, unless it only looks); -EUCLEAN
 * when it is no regular file; -errno of open(2) and flock(2).
 */
int store_lock(const struct session *s, bool look, int *out, const struct log *log);
