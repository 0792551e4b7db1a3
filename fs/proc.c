/*
 * proc: reads files of /proc.
 * Invariant: none; it keeps nothing.
 * Called by store_lock, users and follow.
 */
#include "proc.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

enum { FIELD_AFTER_NAME = 3 };

void proc_read(const char *path, char *text, size_t size)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, size - 1);

	text[n > 0 ? n : 0] = '\0';
}

/* The name, in brackets, may hold anything. */
int64_t proc_stat(pid_t pid, int field)
{
	char path[32], text[1024];
	char *at;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	proc_read(path, text, sizeof(text));
	at = strrchr(text, ')');
	for (int i = FIELD_AFTER_NAME - 1; at && i < field; i++)
		at = strchr(at + 1, ' ');
	return at ? atoll(at + 1) : -1;
}
