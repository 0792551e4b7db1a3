/* import_layer: what the members of an image's layer mean (layer.md of github.com/opencontainers/image-spec). */
#pragma once

#include <stdbool.h>

#include "import_report.h"
#include "import_target.h"

enum import_layer_pass {
	IMPORT_LAYER_NONE, /* an archive, no layer */
	IMPORT_LAYER_REMOVES,
	IMPORT_LAYER_ADDS,
};

/*
 * 1 when the member is to be added in this pass; 0 when not: it is a whiteout, which is carried out, or of the other pass. What
 * a member that is no directory replaces is removed, also a directory with entries. Errors are written to report.
 */
int import_layer_sort(struct import_target *t, const struct import_report *report, enum import_layer_pass pass,
                      const struct import_member *m, bool is_dir);
