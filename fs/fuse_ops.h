/*
 * fuse_ops: the FUSE front end: each request is decoded, becomes one tree_*() call, and is answered once.
 *
 * The kernel is told to keep everything (names, absent names, attributes, pages, listings) for ever: umlfs is
 * the only writer, and notify says what a reset changed. See fuse(4) and the kernel's
 * Documentation/filesystems/fuse/.
 */
#pragma once

#include <stdio.h>
#include <sys/types.h>

#include "tree.h"

struct fuse_session;
struct fuse_args;

struct fuse_ops_options {
	bool posix; /* for host processes: the kernel checks permissions, new files are the caller's, umask counts */
	bool xattr; /* extended attributes are shown */
	bool owner_caller; /* new files made by host_uid are its own; else they take the owner of their directory */
	uid_t host_uid;    /* who mounted */
	/*
	 * Answers other requests that are waiting, so that what they free is free. Called before a request is
	 * refused for want of room: a FORGET comes behind the request that its sender made after it. Until no request waits, or it
	 * is as late as fuse_ops_now() says. How many they were; -EBUSY within such a request.
	 */
	int (*relieve)(void *arg, int64_t until);
	void *relieve_arg;
};

struct fuse_ops;

/* The tree must live as long. ready is called once the kernel and the server have agreed on how they talk. */
int fuse_ops_new(struct tree *tree, const struct fuse_ops_options *options, void (*ready)(void *arg), void *ready_arg,
                 struct fuse_ops **out);
void fuse_ops_free(struct fuse_ops *ops);

/* Descriptors that requests which wait for a disk may hold, beside those of the session. */
enum { FUSE_OPS_FILES = 80 };

/*
 * Starts the threads that requests which may wait for a disk are given to, and that answer them. Without, the loop waits. 0 or
 * -errno. Call before the loop, and stop, which returns when they have answered, after it.
 */
int fuse_ops_start(struct fuse_ops *ops);
void fuse_ops_stop(struct fuse_ops *ops); /* NULL is none */

/* After the start: readable when requests that waited can be carried out, which fuse_ops_ready() does. */
int fuse_ops_fd(const struct fuse_ops *ops);
void fuse_ops_ready(struct fuse_ops *ops);

/*
 * A libfuse session with these operations: NULL when libfuse refuses the arguments (it has then said why to
 * its own log).
 */
struct fuse_session *fuse_ops_session(struct fuse_ops *ops, struct fuse_args *args);

/* Mounts it: 0, -EIO when libfuse or fusermount3 refuses (it has then said why to its own log), -ENOMEM. */
int fuse_ops_mount(struct fuse_session *session, const char *mountpoint);

/* ns of a clock that only goes forward. */
int64_t fuse_ops_now(void);

/* The thread that asked last (0: none of this host's), as the kernel numbers it. */
pid_t fuse_ops_client(const struct fuse_ops *ops);

/* True while writes or copies wait for what another thread reads: they are carried out by fuse_ops_ready(). */
bool fuse_ops_waits(const struct fuse_ops *ops);

/* How often the kernel has written of itself what was changed in a mapping. */
uint64_t fuse_ops_written_back(const struct fuse_ops *ops);

/* How often bytes were read by another thread, because the loop would have waited for a disk. */
uint64_t fuse_ops_readings(const struct fuse_ops *ops);

/* Writes "requests KIND NUMBER" lines, one for each kind that came. */
void fuse_ops_print_counts(const struct fuse_ops *ops, FILE *out);
