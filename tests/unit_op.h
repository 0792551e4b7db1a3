/*
 * unit_op: one operation on a tree, which can be done in a session and in a host directory alike.
 * Invariant: both give the result of the system call, 0 or -errno, and leave the same tree behind.
 * Called by the tests that compare umlfs with the kernel, and by those that need many operations.
 */
#pragma once

#include "unit_world.h"

enum op_kind {
	OP_MKDIR,
	OP_MKFILE,
	OP_MKFIFO,
	OP_SYMLINK, /* b: the target */
	OP_LINK,    /* a gets the name b */
	OP_UNLINK,
	OP_RMDIR,
	OP_RENAME,      /* a to b; number: flags of renameat2(2) */
	OP_WRITE,       /* len bytes at offset, filled from number */
	OP_TRUNCATE,    /* to offset */
	OP_PUNCH,       /* a hole of len bytes at offset */
	OP_COPY,        /* len bytes at offset of a to number of b */
	OP_CHMOD,       /* number */
	OP_CHOWN,       /* number: uid << 16 | gid */
	OP_ALLOCATE,    /* len bytes at offset; number: the mode of fallocate(2) */
	OP_UTIMES,      /* atime and mtime: number seconds, offset nanoseconds */
	OP_SETXATTR,    /* a value of len bytes, filled from number, to the attribute op_xattr(number) */
	OP_REMOVEXATTR, /* op_xattr(number) */
	OP_KINDS,
};

enum { OP_PATH_MAX = 1100, OP_LEN_MAX = 1 << 16 };

struct op {
	enum op_kind kind;
	const char *a, *b;
	uint64_t number, offset;
	size_t len;
};

int op_tree(struct world *w, const struct op *op);
int op_host(int dirfd, const struct op *op);

const char *op_name(enum op_kind kind);
const char *op_xattr(uint64_t number);

/* The operation in words. */
const char *op_text(const struct op *op, char text[2 * OP_PATH_MAX]);

/* Does both and expects the same result. */
int op_both(struct world *w, int hostfd, const struct op *op);
