/*
 * xattr_set: the extended attributes of one inode as packed bytes, the same on disk, in a record and in memory.
 *
 *     set:  item ...            sorted by name
 *     item: name length (1 byte, not 0) | value length (le32) | name | value
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	XATTR_VALUE_MAX = 65536, /* bytes, as in xattr(7) */
	XATTR_SET_MAX = 131072,  /* bytes of one inode's set; above it -ENOSPC */
};

struct xattr_set {
	const unsigned char *bytes; /* borrowed */
	size_t len;                 /* 0: no attributes */
};

/* 0 when every item lies inside the set, else -EUCLEAN. The other functions want a set that passed. */
int xattr_set_check(struct xattr_set set);

/* The value of name: its length, the bytes in *value_out; -ENODATA. */
ssize_t xattr_set_get(struct xattr_set set, const char *name, const void **value_out);

/*
 * Writes the names, each with a NUL, as listxattr(2) does. Size 0 asks for the length. -ERANGE when it does
 * not fit.
 */
ssize_t xattr_set_list(struct xattr_set set, char *names, size_t size);

/*
 * A copy of set on the heap in which name has this value; value NULL: in which name is not. -ENOSPC when it
 * would grow above XATTR_SET_MAX, -E2BIG for a value above XATTR_VALUE_MAX, -ERANGE for a name of 0 or over
 * 255 bytes.
 */
int xattr_set_with(struct xattr_set set, const char *name, const void *value, size_t value_len,
                   unsigned char **bytes_out, size_t *len_out);
