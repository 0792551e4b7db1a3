/*
 * removals: takes content files that nobody reaches any more off the disk, on a thread of its own.
 *
 * A host may forget in a power cut what was written to a journal, and keep that a file was removed. So a file whose bytes somebody
 * counts on goes only when the record that took its last name away is on disk.
 * A host needs 5 to 30 us for a small file, and as many milliseconds for a large one. All functions are for one thread at a
 * time; until removals_wait() the files may still be there, and hold their room.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct removals;

/* layersfd is the session's layers folder, borrowed. 0 or -errno. */
int removals_new(int layersfd, struct removals **out);

/* All that was added is removed. NULL is none. */
void removals_free(struct removals *r);

/*
 * False when too many wait already: the caller removes this one itself. records: so many bytes of the layer's journal are to be
 * on disk before: then it may wait instead, and is never false. Where they cannot be synced the file stays, and those
 * that are added later.
 */
bool removals_add(struct removals *r, uint32_t layer, uint64_t ino, uint64_t records);

/* Milliseconds until those that wait for more to come are to be handed to the thread; 0: now, -1: none wait. */
int removals_due(const struct removals *r);

/* Hands them over. */
void removals_push(struct removals *r);

/* Returns when all that was added is removed. True: there was something. */
bool removals_wait(struct removals *r);

/* Readable when the thread has done some: then removals_ready() is to be called. */
int removals_fd(const struct removals *r);
void removals_ready(struct removals *r);
