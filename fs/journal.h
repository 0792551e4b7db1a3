/*
 * journal: the append-only file of one layer (format.h has the bytes).
 *
 * What was appended is with the kernel, so it survives the death of the process; journal_sync() makes it
 * survive a power cut.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "umlfs/log.h"

struct journal;

enum { JOURNAL_HEADER_BYTES = 32 }; /* before the first frame */

/* Receives one frame's payload, valid during the call. A result below 0 ends the replay. */
typedef int journal_visit(void *arg, uint64_t serial, const unsigned char *payload, size_t len);

/* Writes an empty journal of this layer to dirfd/journal; it may not be there yet. */
int journal_create(int dirfd, uint64_t layer);

/*
 * Opens dirfd/journal. label is how messages call it; layer must be the one it was created for. A missing,
 * damaged or newer one is written to log: -ENOENT, -EUCLEAN, -EPROTONOSUPPORT.
 */
int journal_open(int dirfd, uint64_t layer, bool writable, const char *label, const struct log *log,
                 struct journal **out);
void journal_free(struct journal *j);

/*
 * The host went down while this journal was written: any part of what was not synced may be missing, so the first frame
 * that does not match ends it. Before journal_replay().
 */
void journal_expect_gaps(struct journal *j);

/*
 * Visits every frame, in order. sealed_len is the length that the manifest tells, 0 for the layer that is
 * still written: then a torn end is no damage; it is cut off (when writable) with a warning. -EUCLEAN is
 * written to log with the byte's place, and the frames before it were visited.
 */
int journal_replay(struct journal *j, uint64_t sealed_len, const struct log *log, journal_visit *visit, void *arg);

/*
 * Adds a frame, whole or not at all: a write that fails is taken back. Only after a replay that succeeded.
 *
 * Behind its end the file keeps blocks, not counted in its size (fallocate(2), FALLOC_FL_KEEP_SIZE), so that on a full
 * disk there is room for frames that free something. Others get -ENOSPC when they would leave too few. owed: bytes that any
 * frame leaves besides, for frames that will come.
 */
int journal_append(struct journal *j, uint64_t serial, const unsigned char *payload, size_t len, bool frees,
                   uint64_t owed);

/* Gives those blocks back, before the journal is sealed or dropped; the next frame takes them again, or journal_hold(). */
void journal_release(struct journal *j);

/* Takes those blocks now, or as many as there are. */
void journal_hold(struct journal *j, uint64_t owed);

/* Puts the frames of another journal, whose whole frames end at byte len, behind those of dirfd/journal. */
int journal_join(int dirfd, int from_dirfd, uint64_t len);

/*
 * Tells the first len bytes of dirfd/journal from those of every other journal of the session: XXH3-64 of their last 64 KiB, where
 * serial numbers are that were never given before. 0, -EUCLEAN when the file is shorter, or -errno.
 */
int journal_fingerprint(int dirfd, uint64_t len, uint64_t *out);

int journal_sync(struct journal *j);
int journal_fd(const struct journal *j); /* for who syncs it */
/* Bytes of the file, before they were looked at: a hint. */
uint64_t journal_length(const struct journal *j);

unsigned int journal_version(const struct journal *j); /* that it was made with */
uint64_t journal_size(const struct journal *j);        /* bytes, header included */
