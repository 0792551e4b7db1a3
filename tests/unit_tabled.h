/*
 * unit_tabled: worlds whose sealed layers have tables, and what must be the same in a mapped layer and in a replayed one.
 */
#pragma once

#include "layer.h"
#include "unit_world.h"

enum { TABLED_LARGE = 4 * WORLD_COPY_UNIT + 100 }; /* bytes of the base's "n0" and "n2/n3" */

/* As cmocka wants it: a world with files to change; world_teardown() takes it away. */
int tabled_setup(void **state);

/* The session's layers as they are on disk, loaded anew: mapped where that can be, or all replayed. Ends with session_unload(). */
void tabled_load(struct world *w, bool only_replay, struct stack *out);

/* Writes tables of layers as they are replayed: one that was written to has not the inodes any more that were let go of. */
void tabled_save(struct world *w);

/* All sealed layers are mapped, and are what they are when they are replayed. */
void tabled_expect_same(struct world *w);

/* As whoever wants to do harm would. */
void tabled_make_sums_right(unsigned char *table, size_t len);

/* Has everything in the layer come into memory; what comes is in order. */
void tabled_touch(const struct layer *l);
