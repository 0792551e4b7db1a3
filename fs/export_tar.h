/* export_tar: files of a state on their way into a tar archive. */
#pragma once

#include "import_meter.h"
#include "state_walk.h"
#include "umlfs/export.h"

struct export_tar;

/* -EINVAL when the file's name promises a format or a compression that is not written here. */
int export_tar_check_name(const struct export_options *options);

/* fd is borrowed. Errors of all functions are written to the options' log, but for -ECANCELED and those of reading. */
int export_tar_new(int fd, const struct export_options *options, struct state *state, struct import_meter *meter,
                   struct export_tar **out);
void export_tar_free(struct export_tar *t);

/* A file, or with `first` one more name for it. A state_visit, but for its first argument. */
int export_tar_add(struct export_tar *t, const char *path, const struct inode *inode, const char *first);

/* An empty file that nothing is told of: a mark of a layer. */
int export_tar_mark(struct export_tar *t, const char *path);

/* Ends the archive. */
int export_tar_end(struct export_tar *t, struct export_result *result);
