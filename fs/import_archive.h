/* import_archive: the members of an archive on their way to the target. */
#pragma once

#include "import_meter.h"
#include "import_report.h"
#include "import_target.h"

/*
 * Reads the archive from fd, which it takes, to its end and adds every member. Errors are written to the
 * report, but not -ECANCELED. The thread's locale is another one meanwhile.
 */
int import_archive(int fd, const struct import_report *report, struct import_meter *meter,
                   struct import_target *target);
