/* export_layer: what changed between two states as a layer of the OCI image format. */
#pragma once

#include "export_tar.h"

/*
 * Adds to the archive what makes `to` of `from`: files that differ, whole, and whiteouts (.wh.NAME) for what went; a
 * directory in the place of another one begins with .wh..wh..opq. See layer.md of github.com/opencontainers/image-spec.
 * -EINVAL, written to log, for a file whose name begins with ".wh.", and one that is gone whose whiteout would be no name.
 */
int export_layer(struct export_tar *tar, struct state *from, struct state *to, const struct log *log);
