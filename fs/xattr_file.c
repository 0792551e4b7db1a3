/*
 * xattr_file: owns nothing; reads attributes by way of /proc, so that no file is opened.
 * Invariant: the set is what the file has, or an error.
 * Called by scan and import_dir.
 */
#include "xattr_file.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "cleanup.h"

/* The length of the list of names in room. */
static ssize_t list(struct xattr_file *room, const char *path)
{
	/* Most files have none, and the kernel makes room for as much as it is offered. */
	ssize_t len = llistxattr(path, NULL, 0);

	if (len > 0)
		len = llistxattr(path, room->names, sizeof(room->names));
	if (len < 0)
		return errno == EOPNOTSUPP ? 0 : -errno;
	return len;
}

/* Adds one attribute to the set. */
static int add(struct xattr_file *room, const char *path, const char *xattr, bool readable, unsigned char **set,
               size_t *set_len)
{
	ssize_t len = lgetxattr(path, xattr, room->value, sizeof(room->value));
	unsigned char *grown;
	int r;

	if (len < 0 && (errno == ENODATA || (readable && (errno == EACCES || errno == EPERM))))
		return 0; /* gone meanwhile, or for others alone */
	if (len < 0)
		return -errno;
	r = xattr_set_with((struct xattr_set){*set, *set_len}, xattr, room->value, (size_t)len, &grown, set_len);
	if (r < 0)
		return r == -ENOSPC ? -E2BIG : r; /* the host's disk is not full */
	free(*set);
	*set = grown;
	return 0;
}

int xattr_file_read(struct xattr_file *room, int dir, const char *name, bool readable, unsigned char **set_out,
                    size_t *len_out)
{
	cleanup_free unsigned char *set = NULL;
	size_t set_len = 0;
	char path[NAME_MAX + 64];
	ssize_t len;

	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", dir, name);
	len = list(room, path);
	for (ssize_t at = 0; at < len; at += (ssize_t)strlen(room->names + at) + 1) {
		int r = add(room, path, room->names + at, readable, &set, &set_len);

		if (r < 0)
			return r;
	}
	if (len < 0)
		return (int)len;
	*set_out = take_ptr(&set);
	*len_out = set_len;
	return 0;
}
