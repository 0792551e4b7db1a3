/* xattr_file: the extended attributes of a file of the host. */
#pragma once

#include <stdbool.h>

#include "xattr_set.h"

enum { XATTR_FILE_NAMES_MAX = 65536 }; /* bytes, as in xattr(7) */

/* What reading needs: too large for a stack, and good for any number of files. */
struct xattr_file {
	char names[XATTR_FILE_NAMES_MAX];
	char value[XATTR_VALUE_MAX];
};

/*
 * Every attribute of dir/name, of a symlink's own, that the caller may see, as a set on the heap; NULL and 0 where there are
 * none. No file is opened. readable: leave those out that are seen and may not be read, which otherwise is -EACCES or -EPERM.
 * -ENOENT, -E2BIG for more than a set can hold, and what else the host answers.
 */
int xattr_file_read(struct xattr_file *room, int dir, const char *name, bool readable, unsigned char **set_out,
                    size_t *len_out);
