/* scratch: a private directory that is there for a while. */
#pragma once

#include "umlfs/log.h"

/*
 * Makes a directory of mode 0700, NAME-XXXXXX in $TMPDIR (else /tmp). *path_out: absolute, without symlinks,
 * on the heap. Errors are written to log.
 */
int scratch_make(const char *name, const struct log *log, char **path_out);

/* Removes the directory and everything in it; nothing may be mounted there. Errors are written to log. */
int scratch_remove(const char *path, const struct log *log);

/* Makes a directory in one of them. Errors are written to log. */
int scratch_mkdir(const char *path, const struct log *log);
