/* import_archive: the members of an archive on their way to the target. */
#pragma once

#include "import_layer.h"
#include "import_meter.h"
#include "import_report.h"
#include "import_source.h"
#include "import_target.h"

/*
 * Reads the archive from source, which stays the caller's, to its end and adds every member. Errors are written to the
 * report, but not -ECANCELED. The thread's locale is another one meanwhile.
 */
int import_archive(struct import_source *source, const struct import_report *report, struct import_meter *meter,
                   struct import_target *target);

/*
 * The same for a layer of an image, which is put on what the target has: first its whiteouts are carried out, and in a second
 * call everything else is added, because a whiteout means what was there before. A layer may be empty.
 */
int import_archive_layer(struct import_source *source, enum import_layer_pass pass, const struct import_report *report,
                         struct import_meter *meter, struct import_target *target);
