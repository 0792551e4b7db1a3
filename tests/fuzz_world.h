/*
 * fuzz_world: the base and the session that fuzz targets work on, and what must hold for any session.
 * Invariant: the base's index is the same bytes in every process, so that an input means the same everywhere.
 * Called by the fuzz targets.
 */
#pragma once

#include "unit_world.h"

/* The process's one world: base/ is there, session/ is not; descriptors and files are counted from now on. */
struct world *fuzz_begin(void);

/* Closes and removes the session; fails when anything else is left. */
void fuzz_end(struct world *w);

/* The base's index. */
void fuzz_put_index(struct world *w, const void *bytes, size_t len);
unsigned char *fuzz_get_index(struct world *w, size_t *len_out);

/* A file of the world as a seed: FUZZ_INPUT_MAX bytes have room. */
size_t fuzz_take(struct world *w, const char *path, unsigned char *bytes);

/* A session with changes in `layers` layers, all but the last one sealed by the snapshots "s1", "s2", ...; it is closed. */
void fuzz_make_session(struct world *w, unsigned int layers);

/*
 * Looks at everything in the open tree, at each inode once, and answers a checksum of what it saw: without times, and without
 * what a daemon's end takes away. It ends for trees that are no trees, too.
 */
uint64_t fuzz_walk(struct world *w);

/* How many findings `umlfs check` has; prints them when told to, and then expects that it can look; else an error counts as one. The session is closed. */
size_t fuzz_check(struct world *w, bool print);

/*
 * The session's files are as the input wants them. It opens, or says in words why not. When it opens, it stands everything
 * that can be done to it, and where check finds no damage, it is the same and without damage when it is opened again.
 */
void fuzz_session(struct world *w);

/* The session is open and must be sound: it is the same when it is opened again, and check finds nothing. */
void fuzz_expect_sound(struct world *w, bool crash);
