/*
 * import_place: where the base will be, and the directory beside it in which it is made.
 *
 *     PARENT/NAME                      the base
 *     PARENT/.NAME.importing-XXXXXX    the base while it is made; its maker holds a flock(2) on it
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "umlfs/log.h"

struct import_place;

/*
 * Looks whether a base can be put there. -EEXIST when something is there that may not be replaced, -ENOENT
 * when there is no directory to put it in, -EBUSY when a mounted session stands on what would be replaced. All errors of this
 * module are written to log.
 */
int import_place_new(const char *base, bool force, const struct log *log, struct import_place **out);

/* Removes what was not committed. */
void import_place_free(struct import_place *p);

/* True when the base would lie below this directory, or replace one of those that it lies in. */
bool import_place_touches(const struct import_place *p, int dirfd);

/* The path of what is being made, on the heap, or NULL. */
char *import_place_temporary(const struct import_place *p);

/* Removes what killed imports of this base left, and makes an empty directory: its descriptor, borrowed, or
 * -errno. */
int import_place_begin(struct import_place *p);

/*
 * Brings everything to disk, then gives it its name in one step. An old base is removed after that: the one that was there in the
 * beginning, and only when no mounted session stands on it. -EEXIST when something else is there by now, and -EBUSY: that stays, or
 * is put back; when that fails it is kept beside it, and log is told where.
 */
int import_place_commit(struct import_place *p);
