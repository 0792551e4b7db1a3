/*
 * layer_table: what a sealed layer holds, mapped from layers/N/table instead of replayed (format.h has the bytes).
 *
 * A table is a copy of what the journal says: one that is missing, damaged, of another version, of another journal, or made on
 * other layers is as good as none. That a whole one says the same, `umlfs check` looks at. What is asked for comes into memory
 * then, an inode by itself, a directory's names together; that cannot fail, since the address space for everything is taken
 * when the table is opened.
 */
#pragma once

#include "layer.h"

struct layer_table;

/* Fills the empty layer l from dirfd/table, when it belongs to the key: 0. Else l stays empty: -ENOENT, -EUCLEAN, or another -errno. */
int layer_table_open(struct layer *l, int dirfd, const struct layer_table_key *key);
void layer_table_free(struct layer_table *t);

/* What the layer has, or NULL. Valid until layer_table_free(). */
struct layer_inode *layer_table_inode(struct layer_table *t, uint64_t ino);
struct layer_dir *layer_table_dir(struct layer_table *t, uint64_t ino);

/* All of it, by growing number: row 0 and up, NULL behind the last one. */
struct layer_inode *layer_table_inode_at(struct layer_table *t, uint64_t row);
struct layer_dir *layer_table_dir_at(struct layer_table *t, uint64_t row);

uint64_t layer_table_n_inodes(const struct layer_table *t);

/* layer_table_write.c: writes dirfd/table of a sealed layer in one step. Nothing is synced. 0 or -errno: then there is none, or the old one. */
int layer_table_write(const struct layer *l, int dirfd, const struct layer_table_key *key);
