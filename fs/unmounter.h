/*
 * unmounter: a second process that can still unmount when the daemon no longer may.
 *
 * A confined process may neither unmount (landlock(7) forbids changes of mounts) nor run the set-uid fusermount3. The unmounter is
 * forked before that and waits, with nothing but one socket to the daemon and one way to the kernel, until it is told to detach
 * this one mount. When the daemon dies without a word it sees to it that no client waits for it, ends too, and leaves the dead
 * mount: a guest that goes on gets errors then, where after an unmount it would write to the directory underneath.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct unmounter {
	int fd; /* readable when it has ended; -1: there is none */
	pid_t pid;
	bool asked;
};

/* Forks it: before the process has threads or anything open that must not live longer than the daemon. 0 or -errno. */
int unmounter_fork(struct unmounter *u);

/* What it shall unmount, both absolute paths. It has let go of all that was the daemon's then. 0; -EPIPE when it was killed; -errno. */
int unmounter_name(struct unmounter *u, const char *session, const char *mountpoint);

/* Lends it a clone of the mount's device (device.h), with which it answers for a daemon that died; once. 0 or -errno. */
int unmounter_lend(struct unmounter *u, int device);

/*
 * Asks it to detach the mount, if it is still there, and does not wait: the kernel may have something to write to the session
 * before. -EPIPE when it was killed.
 */
int unmounter_ask(struct unmounter *u);

/* Tells it, by its fd, that the daemon is about to die, and does no work any more. Safe in a signal handler. */
void unmounter_alarm(int fd);

/* Returns when it has ended: 0, or -errno when it could not unmount. What was named and not asked for stays mounted. */
int unmounter_wait(struct unmounter *u);
