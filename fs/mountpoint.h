/* mountpoint: the place where a session appears. For serve alone. */
#pragma once

#include "store.h"

/*
 * Finds and checks the mountpoint: the session's own when path is NULL. Mounts of this session that a dead
 * daemon left are detached first, and that is said. The absolute path on the heap, or -errno, written to log.
 */
int mountpoint_prepare(const struct store *store, const char *path, const char *base, const struct log *log,
                       char **out);

/* It is mounted there: writes into the session's lock what it can be found by, wherever it is moved to. 0, or -errno, written to log. */
int mountpoint_note(const struct store *store, const char *mountpoint, const struct log *log);

/* What this machine lacks for a FUSE mount: 0, or -ENOENT, -EACCES with the command that mends it in the log. */
int mountpoint_check_fuse(const struct log *log);
