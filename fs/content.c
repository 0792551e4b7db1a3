/*
 * content: names and opens content files.
 * Invariant: a content file's name is its inode number in decimal, so one number always means one file.
 * Called by session, recovery, removals, merge and check_mend.
 */
#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 48 };

static void make_path(uint32_t layer, uint64_t ino, char path[PATH_BYTES])
{
	snprintf(path, PATH_BYTES, "%u/content/%llu", layer, (unsigned long long)ino);
}

int content_create(int layersfd, uint32_t layer, uint64_t ino)
{
	char path[PATH_BYTES];
	int fd;

	make_path(layer, ino, path);
	fd = openat(layersfd, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int content_open(int layersfd, uint32_t layer, uint64_t ino, int flags)
{
	char path[PATH_BYTES];
	int fd;

	make_path(layer, ino, path);
	fd = openat(layersfd, path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int content_size(int layersfd, uint32_t layer, uint64_t ino, uint64_t *size_out)
{
	char path[PATH_BYTES];
	struct stat st;

	make_path(layer, ino, path);
	if (fstatat(layersfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*size_out = (uint64_t)st.st_size;
	return 0;
}

int content_link(int layersfd, uint32_t from, uint32_t to, uint64_t ino)
{
	char path[PATH_BYTES], new_path[PATH_BYTES];

	make_path(from, ino, path);
	make_path(to, ino, new_path);
	return linkat(layersfd, path, layersfd, new_path, 0) < 0 ? -errno : 0;
}

int content_remove(int layersfd, uint32_t layer, uint64_t ino)
{
	char path[PATH_BYTES];

	make_path(layer, ino, path);
	return unlinkat(layersfd, path, 0) < 0 && errno != ENOENT ? -errno : 0;
}
