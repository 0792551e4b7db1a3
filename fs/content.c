/*
 * content: names and opens content files.
 * Invariant: a content file's name is its inode number in decimal, so one number always means one file.
 * Called by layer and copy-up.
 */
#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { NAME_BYTES = 24 };

static void make_name(uint64_t ino, char name[NAME_BYTES])
{
	snprintf(name, NAME_BYTES, "%llu", (unsigned long long)ino);
}

int content_create(int dirfd, uint64_t ino)
{
	char name[NAME_BYTES];
	int fd;

	make_name(ino, name);
	fd = openat(dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int content_open(int dirfd, uint64_t ino, int flags)
{
	char name[NAME_BYTES];
	int fd;

	make_name(ino, name);
	fd = openat(dirfd, name, flags | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? -errno : fd;
}

int content_remove(int dirfd, uint64_t ino)
{
	char name[NAME_BYTES];

	make_name(ino, name);
	return unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
}
