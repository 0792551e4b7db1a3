/* import_dir: the files of a host directory on their way to the target. */
#pragma once

#include "import_meter.h"
#include "import_report.h"
#include "import_target.h"

/*
 * Reads the tree below fd, which stays the caller's, and adds everything: the same as a tar of it would. What
 * the caller owns appears as 0:0; mount points appear as the empty directories that they cover. Errors are
 * written to the report, but not -ECANCELED.
 */
int import_dir(int fd, const struct import_report *report, struct import_meter *meter, struct import_target *target);
