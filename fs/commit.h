/*
 * commit: which manifest is known to be on disk.
 *
 * A manifest takes effect at once and is synced afterwards, so that nobody waits for a disk. Meanwhile the last one
 * that is on disk stays beside it as manifest.old, with all layers that it names: whatever a power cut leaves, one of
 * the two holds. Any thread may call these functions.
 */
#pragma once

#include <pthread.h>

#include "manifest.h"

struct commit {
	pthread_mutex_t lock;
	uint64_t made, durable; /* numbers of manifests since the session was opened */
	uint32_t top;           /* the top layer of the last one that was made here */
	bool sealed;            /* a layer was sealed since the last durable one, so its bytes must be synced too */
	uint32_t *dropped;      /* layers to delete when the last manifest is durable */
	size_t n_dropped;
};

void commit_init(struct commit *c);
void commit_fini(struct commit *c);

/* A process that is gone left a manifest that may not be on disk. */
void commit_inherit(struct commit *c);

/* Replaces the manifest. seals: it names bytes of a layer that no manifest named before. */
int commit_manifest(struct commit *c, int dirfd, const struct manifest *m, bool seals);

/* The number of the last manifest. */
uint64_t commit_made(struct commit *c);

/* True while manifest.old is needed. */
bool commit_pending(struct commit *c);

/* Everything up to this manifest is on disk: when it is still the last, manifest.old goes. */
void commit_durable(struct commit *c, int dirfd, uint64_t nr);

/* Syncs what the manifest of this number names, if it is still the last, and notes that it is durable. */
int commit_sync(struct commit *c, int dirfd, int layersfd, uint64_t nr, uint32_t top);

/*
 * Syncs what the last manifest names, also when others are made meanwhile: what was in a layer of the session before
 * the call is in a layer of a durable manifest after it, unless one that was made since drops it.
 */
int commit_sync_last(struct commit *c, int dirfd, int layersfd);

/* Layers that the last manifest names no more: they wait. -ENOMEM: until the session is opened next. */
int commit_drop(struct commit *c, const uint32_t *layers, size_t n);

/* Deletes from disk what was dropped, unless manifest.old may still name it. */
void commit_delete(struct commit *c, int layersfd);
