/*
 * mark: makes, reads and removes session/running.
 * Invariant: a session without a mark is on disk whole.
 * Called by session.
 */
#include "mark.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

static const char file_name[] = "running";

enum { BOOT_ID_BYTES = 40 };

static void read_boot_id(char id[BOOT_ID_BYTES])
{
	cleanup_fd int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, BOOT_ID_BYTES - 1);

	id[n > 0 ? n : 0] = '\0';
	id[strcspn(id, "\n")] = '\0';
	if (*id == '\0')
		strcpy(id, "unknown");
}

enum mark mark_read(int dirfd)
{
	char now[BOOT_ID_BYTES], then[BOOT_ID_BYTES];
	ssize_t n = readlinkat(dirfd, file_name, then, sizeof(then) - 1);

	if (n < 0)
		return MARK_NONE;
	then[n] = '\0';
	read_boot_id(now);
	return strcmp(now, then) == 0 ? MARK_THIS_BOOT : MARK_OTHER_BOOT;
}

void mark_set(int dirfd)
{
	char id[BOOT_ID_BYTES];

	read_boot_id(id);
	if (symlinkat(id, dirfd, file_name) < 0)
		return;
}

void mark_clear(int dirfd)
{
	unlinkat(dirfd, file_name, 0);
}
