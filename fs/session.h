/*
 * session: a base, the layers on it, and the one way in which they change.
 *
 * A change is a record: session_apply() appends it to the top layer's journal and then to the maps. Replay
 * goes through the same code, so what runs is what survives.
 */
#pragma once

#include "commit.h"
#include "handles.h"
#include "manifest.h"
#include "quota.h"

enum { SESSION_DIRTY_MAX = 120 }; /* files whose run of writes is not closed by a record yet */

/* Why layers are loaded. */
enum session_purpose {
	SESSION_SERVE, /* to be used: a torn tail is cut, inodes without names are forgotten with their content */
	SESSION_LOOK,  /* to be read: nothing on disk changes, nothing is forgotten */
	SESSION_MEND,  /* to be changed by a repair: a torn tail is cut, nothing is forgotten */
};

struct session {
	enum session_purpose purpose;
	int dirfd, layersfd;
	char *label; /* how messages call it */
	struct log log;
	struct manifest manifest;
	struct commit commit;
	bool marked;   /* session/running is there */
	bool host_cut; /* the host went down while the session was in use: what was not synced may be missing */
	struct base *base;
	struct stack stack;
	struct handles *handles;
	struct quota quota;
	uint64_t next_ino, next_serial;
	uint64_t dirty[SESSION_DIRTY_MAX];
	unsigned int n_dirty;
	struct record record; /* being written by the operation in progress */
};

/*
 * Loads the chain of layers that ends at top into *out, sharing those of `have` that are in both: they then
 * belong to both stacks. Errors are written to the session's log.
 */
int session_load(struct session *s, const struct manifest *m, uint32_t top, const struct stack *have,
                 struct stack *out);

/* Looks who had the session last, before anything is loaded. */
void session_look_back(struct session *s);

/* From now on there may be changes that are not on disk, until session_sync(). A change does it by itself, if it still can. */
void session_mark(struct session *s);

/* Frees the layers of old that are not in kept (NULL: all), and old's array. */
void session_unload(struct stack *old, const struct stack *kept);

/* Makes the change in s->record, whole or not at all: 0 or -errno, then nothing changed. */
int session_apply(struct session *s);

/* A number that no inode of this session ever had. */
uint64_t session_new_ino(struct session *s);

/*
 * A descriptor of the file's bytes, borrowed until two more files were opened: -ENODATA when it has none (it
 * is empty). The descriptor may be written to only between session_begin_write() and session_wrote().
 */
int session_content(struct session *s, const struct inode *inode);

/*
 * Makes the content writable: copies it up when it lies below the top layer (the first `keep` bytes of it),
 * and records that a run of writes begins. Answers a descriptor as session_content() does; *inode is brought
 * up to date, but for its size.
 *
 * The content file is never shorter than the journal says: the copy is made before its record, and a record
 * with the new length comes before a file is cut. A shorter one after a power cut was not written yet.
 */
int session_begin_write(struct session *s, struct inode *inode, uint64_t keep, struct timespec now);

/* The write is done: the file, whose descriptor this is, is so long now. */
void session_wrote(struct session *s, int fd, uint64_t ino, uint64_t size, struct timespec now);

/* The write failed and changed nothing: the times are what they were before. */
void session_write_failed(struct session *s, const struct inode *before);

/* Records what the runs of writes came to, so that no file is dirty. */
int session_settle(struct session *s);

/* Closes the run of one inode, before its times are set. */
int session_settle_inode(struct session *s, uint64_t ino);

/* An inode without names that nobody has open: frees what it holds. */
void session_forget(struct session *s, uint64_t ino);

/* Everything acknowledged is on disk when this returns 0. */
int session_sync(struct session *s);

/* The manifest is on disk when this returns 0. */
int session_sync_manifest(struct session *s);
