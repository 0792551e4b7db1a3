/* users: which process uses files under a mountpoint. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct users_found {
	pid_t pid;
	char name[32];  /* the process's own name, as in /proc/PID/comm */
	char path[256]; /* what it uses, maybe cut short */
};

/*
 * Looks through /proc (proc(5)) for a process, other than the caller and the one given, whose working
 * directory, root, program or an open file is at or below mountpoint, an absolute path without symlinks.
 * Processes that the caller may not look into are passed over. True when there is one.
 */
bool users_find(const char *mountpoint, pid_t except, struct users_found *out);
