/*
 * request: what can be asked of a session, and what is answered.
 *
 * Answers are text, lines of a word and its values. Each line of LIST:
 *     snapshot NUMBER PARENT TIME CHANGES BYTES CURRENT NAME   (numbers; PARENT 0: the base; TIME in seconds since the epoch;
 *                                                               CURRENT 1 where the session stands)
 *     session PARENT CHANGES BYTES                             (what changed since)
 * NAME is the rest of its line. A snapshot's name has 1 to 255 bytes, does not begin with '-' or '@', and holds no '/', no byte
 * below 0x20 and no 0x7f; it need not be UTF-8.
 * The line of SEAL: layer NUMBER (whose state that is; 0: the base)
 * Each line of STATUS: base PATH, mountpoint PATH, pid NUMBER, profile WORD, standing NAME, changes NUMBER, bytes NUMBER,
 * disk NUMBER, files NUMBER, size_limit BYTES, inodes_limit NUMBER, requests KIND NUMBER, option WORD, confined TEXT ("yes",
 * or "no: " and why), problem TEXT; the ones that only a daemon knows are missing without one. In paths, control characters
 * and '%' stand as %XX.
 */
#pragma once

#include <stdbool.h>

enum request_kind {
	REQUEST_SNAPSHOT, /* name: the new snapshot's */
	REQUEST_RESET, /* name: a snapshot, "@base", or NULL for the one that the session stands on; force: even while in use */
	REQUEST_DELETE, /* name: the snapshot's */
	REQUEST_LIST,
	REQUEST_STATUS,
	REQUEST_SEAL, /* the present state becomes one that stays, as a snapshot without a name, unless nothing changed */
};

struct request {
	enum request_kind kind;
	const char *name;
	bool force;
	bool may_force; /* a refusal offers it */
};
