/*
 * import_layer: owns nothing.
 * Invariant: a whiteout removes what the layers below have, and nothing of its own layer.
 * Called by import_archive.
 */
#include "import_layer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"

/* .wh.NAME removes NAME, .wh..wh..opq all that its directory has; others of .wh..wh.* are some tools' own. */
static int carry_out(struct import_target *t, const struct import_report *report, const struct import_member *m,
                     const char *name)
{
	size_t dir = (size_t)(name - m->path);
	cleanup_free char *path = NULL;

	if (strcmp(name, ".wh..wh..opq") == 0)
		return import_target_remove(t, m, m->path, dir > 0 ? dir - 1 : 0, true);
	if (strncmp(name, ".wh..wh.", 8) == 0 || name[4] == '\0' || strcmp(name + 4, ".") == 0 ||
	    strcmp(name + 4, "..") == 0)
		return 0;
	if (asprintf(&path, "%.*s%s", (int)dir, m->path, name + 4) < 0) {
		path = NULL;
		return import_report_errno(report, m->name, -ENOMEM);
	}
	return import_target_remove(t, m, path, strlen(path), false);
}

int import_layer_sort(struct import_target *t, const struct import_report *report, enum import_layer_pass pass,
                      const struct import_member *m, bool is_dir)
{
	const char *slash = strrchr(m->path, '/');
	const char *name = slash ? slash + 1 : m->path;
	bool whiteout = strncmp(name, ".wh.", 4) == 0;
	int r = 0;

	if (pass == IMPORT_LAYER_NONE)
		return 1;
	if (pass == IMPORT_LAYER_REMOVES)
		return whiteout ? carry_out(t, report, m, name) : 0;
	if (whiteout)
		return 0;
	if (!is_dir && m->len > 0 && import_target_has_dir(t, m))
		r = import_target_remove(t, m, m->path, m->len, false);
	return r < 0 ? r : 1;
}
