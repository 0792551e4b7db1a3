/* inode: the one in-memory description of a file, whichever layer it comes from. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

/*
 * Where a regular file's bytes are: the base, or the content folder of the layer of this number, or nowhere
 * (empty).
 */
enum {
	CONTENT_BASE = 0,
	CONTENT_NONE = UINT32_MAX,
};

struct inode {
	uint64_t ino;
	uint32_t mode; /* type and 12 permission bits */
	uint32_t uid, gid;
	uint32_t nlink;
	uint64_t rdev;   /* major << 32 | minor */
	uint64_t size;   /* bytes; symlinks: length of the target */
	uint64_t blocks; /* 512 bytes each */
	uint64_t floor;  /* session content: it was never shorter since it was copied up, see session_begin_write() */
	struct timespec atime, mtime, ctime;
	uint64_t parent; /* directories: the one that ".." means; the root is its own */
	uint64_t below; /* regular files: the content file has only parts of the bytes before this one; 0: it has all */
	uint32_t content_layer; /* regular files */
	bool dirty;             /* size, blocks and times are those of the content file if the daemon dies now */
	bool promised; /* content_layer's file has been synced since the session was opened, or is about to be */
};

/* Which members of a struct inode a change sets. */
enum inode_field {
	INODE_MODE = 1 << 0,
	INODE_UID = 1 << 1,
	INODE_GID = 1 << 2,
	INODE_NLINK = 1 << 3,
	INODE_RDEV = 1 << 4,
	INODE_SIZE = 1 << 5,
	INODE_BLOCKS = 1 << 6,
	INODE_ATIME = 1 << 7,
	INODE_MTIME = 1 << 8,
	INODE_CTIME = 1 << 9,
	INODE_PARENT = 1 << 10,
	INODE_HERE = 1 << 11,  /* the content is in the changing layer from now on */
	INODE_DIRTY = 1 << 12, /* together with mtime and ctime: when the first write of a run of writes came */
	INODE_CLEAN = 1 << 13, /* the run has ended: size, blocks, mtime and ctime are told */
	INODE_NEW = 1 << 14,   /* no such inode below */
	INODE_FIELDS = (1 << 15) - 1,
	INODE_TIMES = INODE_ATIME | INODE_MTIME | INODE_CTIME,
};

static inline bool inode_is_dir(const struct inode *i)
{
	return S_ISDIR(i->mode);
}
