/*
 * unit_place: a directory that a test has for itself, files in it, and a log that remembers its lines.
 * Invariant: the directory is empty at the start and gone at the end; it lies in memory where the host has
 * /dev/shm.
 * Called by every test that needs a disk.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "umlfs/log.h"

enum { PLACE_LINES_MAX = 1 << 16 };

struct place {
	char path[128]; /* absolute, no symlinks */
	int fd;
	char lines[PLACE_LINES_MAX]; /* what the log got, each with a newline */
	unsigned int n_errors, n_warnings;
	struct log log;
};

/* UMLFS_UNIT_DIR, /dev/shm or /tmp. */
void place_make(struct place *p);
void place_remove(struct place *p);

/* Forgets the lines so far. */
void place_forget_lines(struct place *p);

/* dirfd/path, with these bytes. */
void place_put(int dirfd, const char *path, const void *bytes, size_t len);

/* All of dirfd/path, on the heap. */
unsigned char *place_get(int dirfd, const char *path, size_t *len_out);

bool place_has(int dirfd, const char *path);

/* Copies a whole tree, owners, times, links and all: cp -a. */
void place_copy(const char *from, const char *to);
