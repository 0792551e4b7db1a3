/* import_member: one file as the source tells it, before it has its place in the base. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "xattr_set.h"

struct import_member {
	const char *name; /* as the source has it, for messages */
	char *path;       /* below the root, one slash between names, none at the ends; "" is the root */
	size_t len;
	uint32_t mode; /* type and 12 permission bits */
	uint32_t uid, gid;
	uint64_t rdev; /* major << 32 | minor */
	struct timespec mtime, ctime;
	const char *target; /* of a symlink */
	size_t target_len;
	struct xattr_set xattrs;
};

/*
 * A name from an archive as a path of import_member, on the heap. Slashes at the front and names "." go: an
 * absolute member is one below the root. On failure *why_out says what is wrong with it: -EPERM for ".." and
 * for umlfs's own folder, -ENAMETOOLONG for a name of more than 255 bytes, -ENOMEM.
 */
int import_member_path(const char *name, char **path_out, size_t *len_out, const char **why_out);
