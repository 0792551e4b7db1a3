/* diff: what changed between two states of a session, true to content. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "umlfs/log.h"

enum diff_kind {
	DIFF_ADDED = 'A',
	DIFF_MODIFIED = 'M',
	DIFF_DELETED = 'D',
	DIFF_RENAMED = 'R', /* the same inode under another name; what is below a directory went along */
};

/* What differs, besides the name. Bytes that were written again as they were are no difference. */
enum diff_what {
	DIFF_TYPE = 1 << 0,
	DIFF_MODE = 1 << 1,
	DIFF_OWNER = 1 << 2,
	DIFF_GROUP = 1 << 3,
	DIFF_CONTENT = 1 << 4, /* of a regular file */
	DIFF_SIZE = 1 << 5,    /* with DIFF_CONTENT */
	DIFF_TARGET = 1 << 6,  /* of a symbolic link */
	DIFF_DEVICE = 1 << 7,
	DIFF_XATTRS = 1 << 8,
	DIFF_LINKS = 1 << 9,  /* it shares its inode with other names than before */
	DIFF_MTIME = 1 << 10, /* only when times are asked for */
};

struct diff_xattr {
	const char *name;
	const void *value;
	size_t len;
};

/* A file as one of the states has it. */
struct diff_file {
	uint64_t ino;
	uint32_t mode; /* type and 12 permission bits, as in st_mode */
	uint32_t uid, gid;
	uint32_t nlink;
	uint64_t size; /* bytes; 0 for directories */
	uint64_t rdev; /* major << 32 | minor */
	struct timespec mtime;
	const char *target; /* symbolic links, else NULL */
	const struct diff_xattr *xattrs;
	size_t n_xattrs;
};

/* Paths begin with '/'; those of directories do not end with one. */
struct diff_change {
	enum diff_kind kind;
	unsigned int what; /* MODIFIED and RENAMED */
	const char *path;  /* in the later state; DELETED: in the earlier one */
	const char *
		old_path; /* RENAMED, and MODIFIED below a directory that was renamed: in the earlier state; else NULL */
	const char *link_to;               /* ADDED, when it is not the first name of its inode: that; else NULL */
	const struct diff_file *from, *to; /* NULL for ADDED, for DELETED */
};

struct diff_options {
	const char *session;
	const char *from; /* a snapshot's name, "@base", or NULL: the snapshot that the session stands on */
	const char *to;   /* the same; NULL: the present state */
	bool times;       /* a time of modification alone counts too */
	const struct log *log;
	/* Called for each change, sorted by path, parents first; valid during the call. Below 0 ends it. */
	int (*change)(void *arg, const struct diff_change *change);
	void *arg;
};

/*
 * 0 when the states could be compared, whatever differs. The cost grows with what the session's layers hold, not with the
 * base. A mounted session goes on meanwhile: its present state is sealed first, as a snapshot without a name. Errors are
 * written to log: -ENOENT no such session or snapshot, -EBUSY, -EUCLEAN damage, -EIO bytes that cannot be read.
 */
int diff_run(const struct diff_options *options);
