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
#include "removals.h"

enum { SESSION_DIRTY_MAX = 120 }; /* files whose run of writes is not closed by a record yet */

/* Why layers are loaded. */
enum session_purpose {
	SESSION_SERVE, /* to be used: a torn tail is cut, inodes without names are forgotten with their content */
	SESSION_LOOK,  /* to be read: nothing on disk changes, nothing is forgotten */
	SESSION_MEND,  /* to be changed by a repair: a torn tail is cut, nothing is forgotten */
};

enum { SESSION_COPY_WHOLE = 1 << 20, SESSION_COPY_UNIT = 1 << 16 };

enum { SESSION_TABLE_MIN = 20000 };

/* How files are copied up. */
struct session_copying {
	uint64_t whole; /* bytes: longer files are copied in parts, where the host cannot share blocks */
	uint64_t unit;  /* bytes that are copied together: a power of two, a page or more */
	bool no_reflink;
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
	struct removals *removals; /* NULL: content goes at once, and not on another thread. Borrowed */
	struct session_copying copying;
	uint64_t table_min; /* sealed layers of so many changes get a table */
	bool only_replay;   /* tables are not believed: the journals are about to be copied */
	uint64_t next_ino, next_serial;
	uint64_t promised_end; /* content of inodes below it may have been synced before the session was opened */
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

/* Writes tables of large sealed layers that have none, as far as it can. Nothing may change meanwhile. */
void session_save_tables(const struct session *s);

/* Looks who had the session last, before anything is loaded. */
void session_look_back(struct session *s);

/* From now on there may be changes that are not on disk, until session_sync(). A change does it by itself, if it still can. */
void session_mark(struct session *s);

/* Frees the layers of old that are not in kept (NULL: all), and old's array. */
void session_unload(struct stack *old, const struct stack *kept);

/* Makes the change in s->record, whole or not at all: 0 or -errno, then nothing changed. -ENOSPC: also of serial numbers. */
int session_apply(struct session *s);

/* A number that no inode of this session ever had; 0: there are no more. */
uint64_t session_new_ino(struct session *s);

/*
 * A descriptor of a content file, borrowed until two more files were opened: -ENODATA when there is none (the file is
 * empty). Of a file in part (inode->below), it has not all bytes: session_piece() tells whose to ask. The descriptor may be
 * written to only between session_begin_write() and session_wrote().
 */
int session_content(struct session *s, const struct inode *inode);

/* Whose content file has the bytes from some offset on. */
struct session_piece {
	struct inode inode; /* for session_content() */
	uint64_t len;       /* so many bytes; UINT64_MAX: to the end of the file, whatever its length */
};

/* session_part.c: 0 or -EUCLEAN. Offsets are the same in all content files of an inode. */
int session_piece(const struct session *s, const struct inode *inode, uint64_t offset, struct session_piece *out);

/* session_part.c: what the file takes on the host, 512 bytes each, with what the layers below have of it. */
uint64_t session_blocks(struct session *s, const struct inode *inode);

/* What is going to be written. */
struct session_write {
	uint64_t keep;     /* so many bytes of the file stay: its size, or less when it is about to be cut */
	uint64_t from, to; /* the bytes that change; from == to: none, or only such as lie behind the end */
	bool at_once;      /* by calls that are followed by session_wrote() only when all of them were written */
	struct timespec now;
	uint64_t brings_from, brings_to; /* session's: these bytes are here when it is done */
};

/*
 * session_write.c: makes the content writable: copies it up when it lies below the top layer (the first `keep` bytes of it),
 * and records that a run of writes begins. Answers a descriptor as session_content() does; *inode is brought
 * up to date, but for its size.
 *
 * The content file is never shorter than the journal says: the copy is made before its record, and a record
 * with the new length comes before a file is cut. A shorter one after a power cut was not written yet.
 *
 * A large file is copied in parts: what w changes is copied, in whole units, before a record says that it is here, and
 * before it is changed. A hole in such a part after a power cut was not written yet: so in a part there is never one.
 * What was written at once over bytes that are all below is seen only when the record comes behind it.
 */
int session_begin_write(struct session *s, struct inode *inode, struct session_write *w);

/*
 * What session_begin_write() would read from below, unless it can share blocks: so many ranges, some of which may be empty. The
 * inode as it is.
 */
size_t session_write_reads(const struct session *s, const struct inode *inode, const struct session_write *w,
                           struct range out[2]);

/* The write is done: the file, whose descriptor this is, is so long now. 0, or -errno: it failed after all. */
int session_wrote(struct session *s, const struct session_write *w, int fd, uint64_t ino, uint64_t size);

/* The write failed and changed nothing: the times are what they were before. */
void session_write_failed(struct session *s, const struct session_write *w, const struct inode *before);

/* session_part.c: copies what is not in the top layer's content file into it; records nothing. 0 or -errno. */
int session_copy_part(struct session *s, const struct inode *inode, uint64_t from, uint64_t to);

/* session_part.c: of a file in part in the top layer, makes holes again of bytes that no record tells. */
void session_punch_away(struct session *s, uint64_t ino, int fd, uint64_t from, uint64_t to);

/* session_part.c: 1 when a part of the file that the layer tells is a hole, in its content file fd; 0 or -errno. */
int session_part_torn(const struct layer_inode *inode, int fd);

/* session_part.c: after a power cut: fills the holes in parts of the top layer with the bytes of below. */
int session_mend_part(struct session *s, const struct layer_inode *inode, int fd);

/* session_part.c: the parts of this inode in the top layer are on disk: records it. 0 or -errno. */
int session_part_synced(struct session *s, uint64_t ino);

/* The same for all inodes. */
int session_parts_synced(struct session *s);

/* Records what the runs of writes came to, so that no file is dirty. */
int session_settle(struct session *s);

/* For session_write.c: the run of this inode has been closed. */
void session_remove_dirty(struct session *s, uint64_t ino);

/* Closes the run of one inode, before its times are set. */
int session_settle_inode(struct session *s, uint64_t ino);

/* An inode without names that nobody has open: frees what it holds, its content file soon after. */
void session_forget(struct session *s, uint64_t ino);

/* The content of all that was forgotten is off the disk when this returns. True: some of it was not before. */
bool session_finish_removals(struct session *s);

/* Everything acknowledged is on disk when this returns 0. */
int session_sync(struct session *s);

/* The manifest is on disk when this returns 0. */
int session_sync_manifest(struct session *s);
