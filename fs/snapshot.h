/*
 * snapshot: a session's layers as states that one can go back to.
 *
 * Each function is one replacement of the manifest: whatever happens, the session is in the state before or
 * after. They work on a store that a daemon serves and on one that was opened for a single command.
 */
#pragma once

#include "store.h"

#define SNAPSHOT_BASE "@base" /* what reset calls the untouched base */

/* What a change of layers leaves to be cleaned up, and what of the old state others may have cached. */
struct snapshot_change {
	struct layer **gone; /* out of the session's stack now */
	struct layer **come; /* in it now, without the empty top; borrowed from the session */
	unsigned int n_gone, n_come;
	uint32_t *dropped; /* numbers of layers that nothing stands on, still on disk */
	unsigned int n_dropped;
	uint64_t nr;  /* of the manifest that made it, see commit.h */
	uint32_t top; /* its top layer */
};

/* 0, or why a name cannot be a snapshot's: -EINVAL, written to log. */
int snapshot_check_name(const char *name, const struct log *log);

/* Says that the session has no snapshot of this name: -ENOENT. */
int snapshot_missing(const char *session, const char *name, const struct log *log);

/*
 * Seals the top layer under a name and puts an empty one on it: 0, -EEXIST, -ENOSPC, ... The caller ends *out with
 * snapshot_clean_up().
 */
int snapshot_create(struct store *store, const char *name, const struct log *log, struct snapshot_change *out);

/*
 * The present state as one that stays: its layer, 0 for the base. The top layer is sealed without a name unless it is
 * empty. The caller ends *out with snapshot_clean_up().
 */
int snapshot_seal(struct store *store, const struct log *log, uint32_t *layer_out, struct snapshot_change *out);

/*
 * Drops what changed: back to the named snapshot, to the base (SNAPSHOT_BASE), or (NULL) to the snapshot that
 * the session stands on. -ENOENT when there is none of that name. The caller ends *out with
 * snapshot_clean_up().
 */
int snapshot_reset(struct store *store, const char *name, const struct log *log, struct snapshot_change *out);

/*
 * Removes a name; a layer that nothing stands on goes with it. One that something stands on stays without a
 * name until merge_layers() can do away with it. The caller ends *out with snapshot_clean_up().
 */
int snapshot_delete(struct store *store, const char *name, const struct log *log, struct snapshot_change *out);

/*
 * Frees the layers that are gone, which nobody may look into any more, gets the change to the disk, then deletes the dropped
 * ones from it. May take long, and may run on any thread. Those of several changes may come in any order: what is dropped
 * waits until the last manifest is on disk. 0 when the change is on disk, or is no longer the last one, whose own clean-up
 * gets both there.
 */
int snapshot_clean_up(struct session *s, struct snapshot_change *change);
