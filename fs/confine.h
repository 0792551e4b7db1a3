/*
 * confine: takes from the process what it does not need to serve a session.
 *
 * What stays is what is open already, reading below the base and /proc, and making, changing and removing plain files and
 * directories below the session. What goes: every other path of the host, programs, connections by TCP and to abstract sockets, signals
 * to other processes, mounts, capabilities, and anything of this coming back. See landlock(7), capabilities(7) and PR_SET_NO_NEW_PRIVS
 * in prctl(2).
 */
#pragma once

/*
 * Confines the calling thread, and every thread and process that it starts from then on: so it is called before the first thread.
 * session and base are directories. The answer is the version of Landlock that confines it (landlock(7); before 3 it does not
 * know truncate(2), before 4 no connections, before 6 no signals), or -errno: -ENOSYS and -EOPNOTSUPP where the kernel has no Landlock.
 * What does not depend on Landlock is given up all the same.
 */
int confine_process(int session, int base);

/* Why confine_process() answered so, in words for people. */
const char *confine_why_not(int r);
