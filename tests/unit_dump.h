/*
 * unit_dump: a whole tree as text, one line a name, so that two states can be compared and a difference be
 * read.
 * Invariant: the text depends on the state alone: lines are sorted by path, files with several names are
 * told by the first.
 * Called by the tests of tree, store and snapshot.
 *
 *     path type mode uid:gid nlink size rdev hash-or-target first [ino times xattrs]
 */
#pragma once

#include "unit_world.h"

enum dump_what {
	DUMP_PLAIN = 0, /* what a host directory can be compared in */
	DUMP_INOS = 1,  /* and inode numbers, xattrs */
	DUMP_TIMES = 2, /* and atime, mtime, ctime */
	DUMP_ALL = DUMP_INOS | DUMP_TIMES,
	DUMP_KEPT = 4, /* and mtime, where it was set to before 2001 (else "now"), and user xattrs: on hosts too */
};

/* The merged tree: on the heap. Fails the test when the tree cannot be read. */
char *dump_world(struct world *w, unsigned int what);

/* The same, and the names of the snapshots. */
char *dump_session(struct world *w, unsigned int what);

/* A host directory in DUMP_PLAIN form, or in that of what: DUMP_PLAIN or DUMP_KEPT. */
char *dump_host(const char *path);
char *dump_host_as(const char *path, unsigned int what);

/* Fails the test with the first line that differs. */
void dump_expect(const char *got, const char *want, const char *when);

/* The same of a world and a text, which stays the caller's. */
void dump_expect_world(struct world *w, unsigned int what, const char *want, const char *when);
