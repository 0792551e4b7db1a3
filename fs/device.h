/*
 * device: a second way to the kernel's side of a mount (FUSE_DEV_IOC_CLONE, Linux 4.2).
 *
 * The kernel answers for a dead daemon when every descriptor of its /dev/fuse is closed: not while one of its threads sits in the
 * kernel with it. A notification waits there, and nothing can interrupt it, for the lock of a directory (fs/fuse/dir.c,
 * fuse_reverse_inval_entry()); a client holds that lock and waits for the daemon. So what notifies has a clone, and shares no
 * descriptor with the loop: requests that the loop had read end with the loop, and those it had not are refused through another
 * descriptor of the clone.
 */
#pragma once

/*
 * Bytes that one write of a client may have; INIT says so. The kernel sends more in several, one after the other, so that others
 * are answered in between; what a write costs is its bytes, not its being asked for. libfuse gives
 * reads the same bound.
 */
enum { DEVICE_WRITE_MAX = 128 << 10 };

/* The descriptor, which does not block; -errno. */
int device_clone(int fuse);

/*
 * Answers every request that nobody has read with ENOTCONN, as the kernel does when there is no daemon, until the process
 * has ended. device: a clone. process: a pidfd (pidfd_open(2)). 0 or -errno.
 */
int device_refuse(int device, int process);
