/*
 * store: a session's directory on disk: who may use it, and on which base.
 *
 *     session/manifest     see manifest.h; beside it for a moment manifest.old, see commit.h
 *     session/running      see mark.h
 *     session/lock         see store_lock.h
 *     session/layers/N/    journal, content/
 *     session/base.index   the index of the base as it was when the session was made
 *     session/rootfs/      the default mountpoint
 *     session/control      the daemon's socket
 *     session/log          the daemon's messages
 */
#pragma once

#include "session.h"

struct store {
	struct session session;
	int lockfd;
	char *path;                  /* absolute */
	bool loaded;                 /* session.base and session.stack are valid */
	bool made_session, made_dir; /* by this store_open() */
	bool base_moved;             /* since the manifest was written */
};

struct store_options {
	const char *session; /* path */
	const char *
		base; /* path; NULL: no base is looked at, the session's copy of the index serves (nothing can be read) */
	const struct log *log;
	unsigned int max_files;         /* descriptors to keep open */
	struct session_copying copying; /* zeros: as is best */
	uint64_t table_min;             /* changes of a sealed layer that gets a table; 0: as is best */
	bool look;                      /* without a base: nothing on disk is changed, not even the lock's pid */
	bool live; /* with look: beside a daemon, without the lock; sealed layers hold still all the same */
};

/*
 * Locks the session and reads its manifest; with a base also makes a session that is not there, checks that
 * the base is the session's and unchanged, and loads the layers. Without one, store_load() does that when it
 * is needed. Errors are written to log:
 *   -EBUSY   a daemon or another command has the lock; the message names its pid
 *   -EPERM   the session is another user's, and this is not only a look (root could, and would lock its owner out)
 *   -ENOENT  no such session (and no base to make one on), no such base
 *   -ESTALE  the base is another one or changed; the first differing paths are in the log
 *   -EUCLEAN, -EPROTONOSUPPORT  damaged, or made by a newer version
 */
int store_open(const struct store_options *options, struct store **out);

/* Says that there is no session at the path, which could not be opened for this reason, a -errno; answers it. */
int store_no_session(const char *path, int r, const struct log *log);
void store_close(struct store *store);

/*
 * The base that was opened has its path still: to be asked when the mount table has the session. Who replaces a base looks there, so
 * one of the two sees the other. -ESTALE, written to log: it was replaced meanwhile.
 */
int store_check_base(const struct store *store, const struct log *log);

/* Takes back what store_open() made of a session that was not there; before store_close(). */
void store_unmake(struct store *store);

/* Loads the session's copy of the base's index, unless the base is open. */
int store_load_base(struct store *store);

/*
 * Makes session/base.index again from the base at the path where it was last; the base is open then. Errors as
 * those of store_open().
 */
int store_mend_base(struct store *store, const struct log *log);

/* Loads base index and layers of a session that was opened without a base. */
int store_load(struct store *store);

/*
 * Makes the manifest the session's: in its file, which commit_sync() gets to the disk, then in memory. seals:
 * it names bytes that no manifest named before. Takes *m on success.
 */
int store_commit(struct store *store, struct manifest *m, bool seals);

/*
 * Removes the directories of layers that the manifest does not know: dropped ones, and leftovers of dead
 * processes. Nothing while the manifest may not be on disk.
 */
int store_remove_dropped(struct session *s);
