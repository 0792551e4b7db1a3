/* users: which process, or the kernel itself, uses files under a mountpoint. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct users_found {
	pid_t pid;      /* 0: the kernel */
	char name[32];  /* the process's own name, as in /proc/PID/comm; or "a mount", or a loop device */
	char path[256]; /* what it uses, maybe cut short */
};

/*
 * Looks through /proc (proc(5)) for a process, other than the caller and the one given, whose working
 * directory, root, program or an open file is at or below mountpoint, an absolute path without symlinks.
 * Processes that the caller may not look into are passed over. True when there is one.
 */
bool users_find(const char *mountpoint, pid_t except, struct users_found *out);

/* Looks for a mount below mountpoint, in this mount namespace (mounts(5)), and for a loop device whose file is there (loop(4)). */
bool users_find_in_kernel(const char *mountpoint, struct users_found *out);
