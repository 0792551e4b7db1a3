/*
 * manifest: which layers and snapshots a session has; the file whose replacement is the one commit point.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "checksum.h"
#include "umlfs/log.h"

struct manifest_layer {
	uint32_t id;             /* 1 and up, never used twice in a session */
	uint32_t parent;         /* 0: the base */
	uint64_t sealed;         /* length of its journal; 0 while it is written, which is the top layer alone */
	uint64_t changes, bytes; /* when sealed: what `list` tells */
};

struct manifest_snapshot {
	uint32_t layer; /* the sealed layer whose state it names */
	int64_t time;   /* made at, seconds since the epoch */
	char *name;
};

struct manifest {
	struct checksum_id base;        /* identity of the base's index */
	char *base_path;                /* absolute, where the base was last */
	uint64_t next_ino, next_serial; /* not used yet when the manifest was written */
	uint32_t next_layer;
	uint32_t top;
	struct manifest_layer *layers; /* parents before children */
	size_t n_layers;
	struct manifest_snapshot *snapshots; /* oldest first */
	size_t n_snapshots;
};

/*
 * Reads dirfd/manifest. label is how messages call it. -ENOENT is left to the caller to explain; damage
 * (-EUCLEAN), a newer version (-EPROTONOSUPPORT) and other errors are written to log.
 */
int manifest_read(int dirfd, const char *label, const struct log *log, struct manifest *out);

/* True when there is one that can be read: the directory is a session. */
bool manifest_is_there(int dirfd);

/* Replaces dirfd/manifest atomically; a process that dies leaves the one before or after. Not synced to disk. */
int manifest_write(int dirfd, const struct manifest *m);

/*
 * manifest.old, the last manifest that is known to be on disk while the present one is not (see commit.h): keep makes
 * it of the present one, as far as the host's file system has hard links; take makes it the present one again.
 */
void manifest_keep_old(int dirfd);
void manifest_drop_old(int dirfd);
bool manifest_has_old(int dirfd);
int manifest_read_old(int dirfd, struct manifest *out);
int manifest_take_old(int dirfd);

int manifest_copy(const struct manifest *m, struct manifest *out);
void manifest_fini(struct manifest *m);

/* Adds to the end; the arrays grow. 0 or -ENOMEM. */
int manifest_add_layer(struct manifest *m, uint32_t id, uint32_t parent);
int manifest_add_snapshot(struct manifest *m, uint32_t layer, int64_t time, const char *name);

void manifest_remove_snapshot(struct manifest *m, size_t nr);

/* Takes out every layer that neither the top nor a snapshot stands on. */
void manifest_prune(struct manifest *m);

/* NULL when there is none. */
struct manifest_layer *manifest_layer(const struct manifest *m, uint32_t id);
struct manifest_snapshot *manifest_snapshot(const struct manifest *m, const char *name);

/* The nearest snapshot that the layer stands on, itself included: NULL for the base. */
const struct manifest_snapshot *manifest_standing(const struct manifest *m, uint32_t layer);
