/*
 * tree: a complete POSIX name space over a session. It knows no FUSE.
 *
 * Each function is one operation: it happens whole and is journaled, or answers -errno and nothing changed.
 * Permissions are not looked at: who calls has checked them. Outputs are written only on success. Where
 * nothing else is said, errors are those of the system call of the same name in section 2 of the manual, and
 * -ESTALE for a number that the session has not (after a reset), -EUCLEAN or -EIO for a damaged store,
 * -ENOSPC and -ENOMEM.
 */
#pragma once

#include <sys/statvfs.h>

#include "pin.h"
#include "session.h"

/* Whether the host's file system can tell that a read would wait: not known before the first one. */
enum tree_host { TREE_HOST_NEW, TREE_HOST_TELLS, TREE_HOST_WAITS };

enum { TREE_STREAMS = 16 };

/* A file that another thread reads for somebody, and where that one would go on. */
struct tree_stream {
	uint64_t ino, next;
};

struct tree {
	struct session *session;
	struct pins pins;
	enum tree_host hosts[2];                  /* of the session's content files, and of the base's */
	struct tree_stream streams[TREE_STREAMS]; /* by number: the one that was read last */
};

/* What a new inode is. */
struct tree_new {
	uint32_t mode; /* type and 12 permission bits */
	uint32_t uid, gid;
	uint64_t rdev;      /* devices: major << 32 | minor */
	const char *target; /* symlinks, NUL-terminated */
};

/* What setattr sets: INODE_MODE, UID, GID, SIZE, ATIME, MTIME, CTIME; without CTIME, ctime is now. */
struct tree_change {
	unsigned int fields;
	struct inode attr; /* the values; of mode only the 12 permission bits count */
};

void tree_init(struct tree *t, struct session *session);
void tree_fini(struct tree *t);

/* Holds and lets go of an inode that somebody has open or cached; without names it lives until nobody holds it. */
int tree_hold(struct tree *t, uint64_t ino);
bool tree_is_held(const struct tree *t, uint64_t ino);
void tree_release(struct tree *t, uint64_t ino, uint64_t n);

/* tree.c: names */
int tree_lookup(struct tree *t, uint64_t parent, const char *name, struct inode *out);
int tree_make(struct tree *t, uint64_t parent, const char *name, const struct tree_new *what, struct inode *out);
int tree_make_nameless(struct tree *t, const struct tree_new *what,
                       struct inode *out); /* O_TMPFILE; hold it, or it goes */
int tree_link(struct tree *t, uint64_t ino, uint64_t parent, const char *name, struct inode *out);
int tree_unlink(struct tree *t, uint64_t parent, const char *name);
int tree_rmdir(struct tree *t, uint64_t parent, const char *name);

/* tree_rename.c; flags: RENAME_NOREPLACE or RENAME_EXCHANGE of renameat2(2) */
int tree_rename(struct tree *t, uint64_t parent, const char *name, uint64_t new_parent, const char *new_name,
                unsigned int flags);

/* tree_attr.c */
int tree_getattr(struct tree *t, uint64_t ino, struct inode *out);
int tree_setattr(struct tree *t, uint64_t ino, const struct tree_change *change, struct inode *out);
int tree_readlink(struct tree *t, uint64_t ino, const char **target_out, size_t *len_out); /* borrowed, no NUL */
ssize_t tree_getxattr(struct tree *t, uint64_t ino, const char *name, void *value, size_t size);
ssize_t tree_listxattr(struct tree *t, uint64_t ino, char *names, size_t size);
int tree_setxattr(struct tree *t, uint64_t ino, const char *name, const void *value, size_t size, int flags);
int tree_removexattr(struct tree *t, uint64_t ino, const char *name);

/*
 * tree_dir.c: "." has cookie 1, ".." cookie 2. visit answers 0 to go on, 1 when it has no room: the entry was
 * not taken.
 */
typedef int tree_visit(void *arg, const struct stack_entry *entry);
int tree_readdir(struct tree *t, uint64_t ino, uint64_t cookie, tree_visit *visit, void *arg);
int tree_dir_empty(struct tree *t, uint64_t ino); /* 0 or -ENOTEMPTY */

/* tree_file.c, tree_read.c: offsets and lengths in bytes; regular files only */
ssize_t tree_read(struct tree *t, uint64_t ino, void *buf, size_t len, uint64_t offset);
ssize_t tree_write(struct tree *t, uint64_t ino, const void *buf, size_t len, uint64_t offset);
int tree_fallocate(struct tree *t, uint64_t ino, int mode, uint64_t offset, uint64_t len);
int64_t tree_lseek(struct tree *t, uint64_t ino, uint64_t offset, int whence); /* SEEK_DATA, SEEK_HOLE */
ssize_t tree_copy_range(struct tree *t, uint64_t src, uint64_t src_offset, uint64_t dst, uint64_t dst_offset,
                        size_t len);
int tree_statfs(struct tree *t, struct statvfs *out);

/* See session_finish_removals(). */
bool tree_finish_removals(struct tree *t);

/*
 * tree_read.c: as tree_read(), but -EAGAIN, with anything in buf, where that would wait for a disk. Then tree_fetch_init() takes
 * out of the tree what another thread needs to read the same: the bytes are those that the file had then, or that were
 * written to it since, and never another file's. -EMFILE, for want of descriptors or because the file lies in too many pieces: tree_read().
 */
ssize_t tree_read_now(struct tree *t, uint64_t ino, void *buf, size_t len, uint64_t offset);

/* Where the bytes of a read lie, as they are now: at its offset in one content file, whose descriptor is borrowed until the next call. */
struct tree_place {
	int fd;
	size_t len; /* less than was asked for at the end of the file */
};

/* 1; 0 when they lie in several, or when nobody knows whether the host has them: tree_read_now(); or the errors of that. */
int tree_place(struct tree *t, uint64_t ino, size_t len, uint64_t offset, struct tree_place *out);

enum { TREE_FETCH_FILES = 8, TREE_FETCH_PIECES = 40 };

struct tree_fetch {
	uint64_t offset;
	unsigned int n_files, n_pieces;
	struct {
		uint32_t layer;
		int fd;
	} files[TREE_FETCH_FILES];
	struct {
		unsigned int file;
		size_t len;
	} pieces[TREE_FETCH_PIECES];
};

int tree_fetch_init(struct tree *t, uint64_t ino, size_t len, uint64_t offset, struct tree_fetch *out);
ssize_t tree_fetch_run(const struct tree_fetch *f, void *buf); /* on any thread; buf has the len bytes */
void tree_fetch_fini(struct tree_fetch *f);                    /* on any thread */

/*
 * True when the host would have to read some of these bytes, or is perhaps reading them for who fetched what lies before them; or (*out)
 * when it would have to read some of those that a write of these (at_once: tree_write(), else tree_copy_range()) takes from below.
 * tree_fetch_warm() reads a fetch through a buffer of any size, on any thread, so that the host has them.
 */
bool tree_read_waits(struct tree *t, uint64_t ino, size_t len, uint64_t offset);
bool tree_write_waits(struct tree *t, uint64_t ino, size_t len, uint64_t offset, bool at_once, struct range *out);
void tree_fetch_warm(const struct tree_fetch *f, void *buf, size_t size);

/*
 * tree_sync.c: all that was done to the inode before tree_flush_init() is on disk when tree_flush_content() and then
 * tree_flush_records() have answered 0; tree_fsync() does it all. In between, of a file with parts that no record tells to be on disk
 * (f->parts), comes tree_flush_tell(), where the tree is: 0, -EAGAIN when the parts are others by now (tree_fsync()), or -errno.
 */
struct tree_flush {
	struct session *session;
	int content, journal; /* descriptors of its own; content may be -1 */
	uint64_t ino;
	uint32_t layer;
	uint64_t parts; /* bytes that the content file had; 0: there is nothing to tell */
};

int tree_flush_init(struct tree *t, uint64_t ino, struct tree_flush *out);
int tree_flush_content(const struct tree_flush *f); /* on any thread */
int tree_flush_tell(struct tree *t, const struct tree_flush *f);
int tree_flush_records(const struct tree_flush *f); /* on any thread, while the session is there */
void tree_flush_fini(struct tree_flush *f);         /* on any thread */
int tree_fsync(struct tree *t, uint64_t ino);

/* For the tree_*.c files: an inode that must be a live directory, and the time of now. */
int tree_dir(struct tree *t, uint64_t ino, struct inode *out);
struct timespec tree_now(void);

/* For the tree_*.c files: an inode that must be a regular file: -EISDIR, -EINVAL. */
int tree_regular(struct tree *t, uint64_t ino, struct inode *out);

/* For the tree_*.c files: checks and measures a name: its length, -ENAMETOOLONG, -EINVAL. */
int tree_name_length(const char *name);

/* For the tree_*.c files: the blocks of an inode, as stat(2) tells them. */
void tree_count_blocks(struct tree *t, struct inode *inode);

/* For the tree_*.c files: puts the fields that change sets into inode; without CTIME, ctime is now. */
void tree_assign(struct inode *inode, const struct tree_change *change);

/* For the tree_*.c files: a change with SIZE in it, all of it or nothing. */
int tree_set_size(struct tree *t, uint64_t ino, const struct tree_change *change);

/* For the tree_*.c files: drops an inode whose last name just went, unless somebody holds it. */
void tree_drop_if_dead(struct tree *t, uint64_t ino);
