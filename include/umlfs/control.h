/*
 * control: asks something of a session, whether a daemon serves it or not.
 *
 * With a daemon the request goes through the socket session/control, which only the daemon's own user and root may use; without one the
 * session is locked and the same code runs in the caller.
 */
#pragma once

#include <stdbool.h>

#include "umlfs/log.h"

enum request_kind {
	REQUEST_SNAPSHOT, /* name: the new snapshot's */
	REQUEST_RESET,    /* name: a snapshot, "@base", or NULL for the one that the session stands on; force: even while in use */
	REQUEST_DELETE,   /* name: the snapshot's */
	REQUEST_LIST,
	REQUEST_STATUS,
};

struct request {
	enum request_kind kind;
	const char *name;
	bool force;
};

/*
 * Carries the request out. *text_out gets what LIST and STATUS answer, lines of a word and its value, on the heap, else an empty
 * text. Each line of LIST:
 *     snapshot NUMBER PARENT TIME CHANGES BYTES CURRENT NAME   (numbers; PARENT 0: the base; TIME in seconds since the epoch;
 *                                                               CURRENT 1 where the session stands)
 *     session PARENT CHANGES BYTES                             (what changed since)
 * Each line of STATUS: base PATH, mountpoint PATH, pid NUMBER, profile WORD, standing NAME, changes NUMBER, bytes NUMBER,
 * files NUMBER, requests KIND NUMBER, option WORD, problem TEXT; the ones that only a daemon knows are missing without one.
 *
 * Errors are written to log: -ENOENT no such session or snapshot, -EEXIST, -EINVAL for a name, -EBUSY the session is in use, -EUCLEAN
 * damage, -EACCES the daemon is another user's, and what the host answers.
 */
int control_request(const char *session, const struct request *request, const struct log *log, char **text_out);
