/* fuse_ops_reply: what the fuse_ops*.c files share: the server's state, and how requests are counted and answered. */
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "fuse_ops.h"
#include "fuse_ops_attr.h"

enum {
	FUSE_OPS_READ_MAX = 1 << 20, /* bytes of one read or listing */
	FUSE_OPS_WARM_FILES = 16,    /* of FUSE_OPS_FILES: descriptors of requests that wait with fuse_ops_warm() */
};

enum fuse_ops_kind {
	KIND_LOOKUP,
	KIND_FORGET,
	KIND_GETATTR,
	KIND_SETATTR,
	KIND_READLINK,
	KIND_MKNOD,
	KIND_MKDIR,
	KIND_UNLINK,
	KIND_RMDIR,
	KIND_SYMLINK,
	KIND_RENAME,
	KIND_LINK,
	KIND_OPEN,
	KIND_READ,
	KIND_WRITE,
	KIND_STATFS,
	KIND_RELEASE,
	KIND_FSYNC,
	KIND_SETXATTR,
	KIND_GETXATTR,
	KIND_LISTXATTR,
	KIND_REMOVEXATTR,
	KIND_FLUSH,
	KIND_OPENDIR,
	KIND_READDIR,
	KIND_READDIRPLUS,
	KIND_RELEASEDIR,
	KIND_FSYNCDIR,
	KIND_ACCESS,
	KIND_CREATE,
	KIND_FALLOCATE,
	KIND_LSEEK,
	KIND_COPY_FILE_RANGE,
	KIND_TMPFILE,
	KIND_COUNT,
};

struct fuse_ops {
	struct tree *tree;
	struct fuse_ops_options options;
	void (*ready)(void *arg);
	void *ready_arg;
	struct crew *reads, *syncs; /* NULL: none */
	bool shares;                /* the last copy did, so that the next one waits for no bytes */
	struct worker *warmer;      /* gives requests back to the loop. NULL: none */
	struct {
		unsigned int requests, files;
		size_t bytes;
	} warming;          /* what the requests hold that wait with fuse_ops_warm() */
	uint32_t forgotten; /* by libfuse, to be said in the answer to INIT */
	pid_t client;       /* who asked last */
	uint64_t readings;  /* that other threads got to do, so far */
	uint64_t written_back;
	uint64_t counts[KIND_COUNT];
	char buffer[FUSE_OPS_READ_MAX];
};

/* A write, or a copy into a file, as it can be carried out later. */
struct fuse_ops_bytes {
	void (*carry_out)(struct fuse_ops *ops, const struct fuse_ops_bytes *request); /* answers it */
	fuse_req_t req;
	fuse_ino_t ino;
	uint64_t offset;
	size_t size;
	const char *bytes; /* NULL: those of another file */
	fuse_ino_t src;
	uint64_t src_offset;
	size_t done;        /* bytes that were copied already */
	uint64_t warm;      /* up to here it has waited for those of src */
	int64_t end;        /* of a copy: no step but the first begins after that, see fuse_ops_now() */
	unsigned int tries; /* fuse_ops_warm()'s, without any progress */
};

/*
 * fuse_ops_warm.c: lets the request wait until these bytes of a file lie in memory, and the loop carry it out then: its bytes are
 * copied. False when it was not taken: too much waits already, or it has waited often enough.
 */
bool fuse_ops_warm(struct fuse_ops *ops, const struct fuse_ops_bytes *request, fuse_ino_t ino, uint64_t from,
                   uint64_t to);

/* fuse_ops_sync.c: puts what was done to the inode on disk, and answers the request; by other threads, if they have room. */
void fuse_ops_sync(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino);

/* Counts a request and answers its server. */
struct fuse_ops *fuse_ops_begin(fuse_req_t req, enum fuse_ops_kind kind);

/*
 * True when it is worth trying again: there was no room, and since then other requests have been answered,
 * or content is off the disk that nobody reached any more. Once is enough, and more
 * could go on for ever: what was freed before the request came has been heard then.
 */
bool fuse_ops_made_room(struct fuse_ops *ops, ssize_t r);

/* Each answers the request. The first is the one place where the sign of an error flips. */
void fuse_ops_reply_status(fuse_req_t req, int r);
void fuse_ops_reply_attr(fuse_req_t req, int r, const struct inode *inode);
void fuse_ops_reply_bytes(fuse_req_t req, ssize_t n, const void *bytes);
void fuse_ops_reply_written(fuse_req_t req, ssize_t n);

/* Answers with a name's inode, which the kernel then holds. */
void fuse_ops_reply_entry(fuse_req_t req, struct fuse_ops *ops, int r, const struct inode *inode);

/* With -o posix: adds to a change that who asks may not leave the set-group-id bit, where that is so. */
void fuse_ops_drop_group(fuse_req_t req, struct fuse_ops *ops, fuse_ino_t ino, struct tree_change *change);

/* The requests of fuse_ops_file.c: bytes and extended attributes. */
void fuse_ops_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi);
void fuse_ops_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                    struct fuse_file_info *fi);
void fuse_ops_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fuse_ops_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void fuse_ops_statfs(fuse_req_t req, fuse_ino_t ino);
void fuse_ops_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags);
void fuse_ops_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size);
void fuse_ops_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size);
void fuse_ops_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);
void fuse_ops_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len, struct fuse_file_info *fi);
void fuse_ops_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);
void fuse_ops_copy_file_range(fuse_req_t req, fuse_ino_t src, off_t src_offset, struct fuse_file_info *src_fi,
                              fuse_ino_t dst, off_t dst_offset, struct fuse_file_info *dst_fi, size_t len, int flags);

/* The requests of fuse_ops_dir.c: listings. */
void fuse_ops_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie, struct fuse_file_info *fi);
void fuse_ops_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t cookie, struct fuse_file_info *fi);
