/* guest: a running UML guest, seen from its host: brought to rest for a moment. */
#pragma once

#include <stdbool.h>

#include "umlfs/log.h"

/*
 * The bytes of a file that process 1 of a guest has locked (fcntl(2)), as /proc/locks tells them: it freezes its command when
 * Ctrl-Alt-Del is pressed, and lets it go on the next time; it has frozen it and everything is written.
 */
enum { UMLFS_FREEZES = 1970105446, UMLFS_FROZEN = UMLFS_FREEZES + 2 };

struct guest {
	int fd;
	const char *name; /* for messages; borrowed */
	bool ours;        /* its first process is umlfs-init, which freezes the command */
	bool stopped, frozen;
};

/*
 * Finds a guest: umid is its umid= word, or the path of its mconsole socket (or of the directory with it), which has a '/'.
 * An umid is looked up in ~/.uml, then in the command lines of this user's processes (proc(5)). Errors are written
 * to log: -ENOENT, -ECONNREFUSED it has ended, -ETIMEDOUT it does not answer.
 */
int guest_open(const char *umid, const struct log *log, struct guest *out);

/*
 * Stops the guest at a moment when everything that was written in it, also through shared mappings (mmap(2)), is with
 * the host. Errors are written to log, and the guest goes on: -EBUSY there is no such moment because it writes all the time,
 * -EPROTO the kernel refused, -ETIMEDOUT.
 */
int guest_stop(struct guest *guest, const struct log *log);

/* Lets it go on, if it was stopped. Errors are written to log. */
int guest_go_on(struct guest *guest, const struct log *log);

void guest_close(struct guest *guest);
