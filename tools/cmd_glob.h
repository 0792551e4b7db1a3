/* cmd_glob: patterns for paths below a root. */
#pragma once

#include <stdbool.h>

/*
 * True when the pattern covers the path, which begins with '/'. In one name '*', '?' and [...] are those of glob(7) and
 * match leading dots too; '**' as a name stands for any number of names, also none, so that it covers a directory itself too when it stands behind it. A
 * pattern that does not begin with '/' may match at any depth.
 */
bool cmd_glob(const char *pattern, const char *path);
