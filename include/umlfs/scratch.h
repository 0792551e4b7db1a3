/* scratch: a private directory that is there for a while. */
#pragma once

#include "umlfs/log.h"

#define SCRATCH_RUN    "umlfs-run"    /* NAME of what `umlfs run` makes */
#define SCRATCH_DOCTOR "umlfs-doctor" /* and `umlfs doctor` */

/*
 * Makes a directory of mode 0700, NAME-XXXXXX in $TMPDIR (else /tmp). *path_out: absolute, without symlinks,
 * on the heap. *hold_out: a descriptor; scratch_sweep() spares the directory while it, or a copy in a child, is
 * open. Errors are written to log.
 */
int scratch_make(const char *name, const struct log *log, char **path_out, int *hold_out);

/* From now on scratch_sweep() spares the directory for ever. Errors are written to log. */
int scratch_keep(const char *path, const struct log *log);

/*
 * Visits the caller's directories NAME-XXXXXX, in $TMPDIR and in /tmp, that nobody holds or keeps. visit may remove
 * the directory; an answer other than 0 ends it and is answered. -errno when memory runs out.
 */
int scratch_sweep(const char *name, int (*visit)(void *arg, const char *path), void *arg);

/* Removes the directory and everything in it; nothing may be mounted there. Errors are written to log. */
int scratch_remove(const char *path, const struct log *log);

/* Makes a directory in one of them. Errors are written to log. */
int scratch_mkdir(const char *path, const struct log *log);
