/*
 * state: the states of a session, to be read: its snapshots, its base, what it is now.
 *
 * Of a session that is mounted the present state is sealed, as a snapshot without a name, so that it holds still while it is
 * read and the daemon goes on. One that is not mounted is locked against changes meanwhile; others may read it too.
 */
#pragma once

#include "snapshot.h"
#include "tree.h"

struct states;

struct state {
	struct session session; /* owns its stack, borrows the rest */
	struct tree tree;       /* for the functions that read */
};

/*
 * Opens the session, or what `SESSION@NAME` means when a session of that whole name is not there: then *name_out is the
 * name behind the '@', else NULL; name_out NULL: the whole of `what` is a session. Errors are written to log.
 */
int states_open(const char *what, const struct log *log, struct states **out, const char **name_out);
void states_free(struct states *s);

/*
 * A state by its snapshot's name, SNAPSHOT_BASE for the base, NULL for the present. It lives as long as states. -ENOENT
 * there is no such snapshot; errors are written to log.
 */
int states_load(struct states *s, const char *name, struct state **out);

/* The snapshot that the present state stands on, SNAPSHOT_BASE when it is none. */
const char *states_standing(const struct states *s);

/* The session's directory, borrowed; and the log of who opened it, for what states_failed() shall know of. */
int states_fd(const struct states *s);
const struct log *states_log(const struct states *s);

/* What failed with r while states were read: writes why, unless that was written already, and answers r. */
int states_failed(const struct states *s, int r);
