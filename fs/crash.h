/*
 * crash: what a daemon still does when a signal ends it that dumps core.
 *
 * Before the kernel writes a core it waits for all threads of the process, with their descriptors open. One that tells the kernel
 * of a reset may wait for the lock of a directory, whose holder waits for the daemon: so the daemon lets go of the device, and its
 * unmounter refuses what comes, before the signal takes its course. See signal(7), core(5).
 */
#pragma once

/* From now on, of SIGSEGV, SIGABRT, SIGILL and SIGFPE. unmounter: its fd. One daemon in a process. 0 or -errno. */
int crash_prepare(int device, int unmounter);

/* As before. Call before the descriptors are closed; also when it was not prepared. */
void crash_forget(void);
