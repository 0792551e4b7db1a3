/*
 * io: system calls made whole.
 * Invariant: every function either does all of its job or leaves nothing half-made that it made itself.
 * Called by the storage modules and above.
 */
#include "io.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "cleanup.h"

enum {
	COPY_CHUNK = 1 << 20,  /* one read or copy_file_range(2) */
	SOLID_CHUNK = 1 << 16, /* one read and write */
	HOLE_PROBE = 1 << 16,
	STEP_MAX = 2048, /* bytes of path given to one openat2(2) when the whole is too long */
};

int io_read_all(int fd, void *buf, size_t len, uint64_t offset)
{
	char *p = buf;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EUCLEAN;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int io_write_all(int fd, const void *buf, size_t len, uint64_t offset)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

static int open_step(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		/* openat2(2) refuses O_NOCTTY beside O_PATH. */
		.flags = (uint64_t)(unsigned int)(flags | O_CLOEXEC | O_NOFOLLOW | (flags & O_PATH ? 0 : O_NOCTTY)),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

/* The longest prefix of whole components that is no longer than STEP_MAX; 0 when a component itself is. */
static size_t step_length(const char *path)
{
	size_t end = STEP_MAX;

	while (end > 0 && path[end] != '/')
		end--;
	return end;
}

int io_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	cleanup_fd int held = -1;
	int at = dirfd;

	while (strlen(path) >= PATH_MAX) {
		char step[STEP_MAX + 1];
		size_t len = step_length(path);
		int fd;

		if (len == 0)
			return -ENAMETOOLONG;
		memcpy(step, path, len);
		step[len] = '\0';
		fd = open_step(at, step, O_PATH | O_DIRECTORY, 0);
		if (fd < 0)
			return fd;
		close_fd(held);
		held = fd;
		at = held;
		path += len + 1;
	}
	return open_step(at, path, flags, mode);
}

/* Copies one stretch of data; ends early without an error where src ends. */
static int copy_data(int src, uint64_t src_offset, int dst, uint64_t dst_offset, uint64_t len)
{
	cleanup_free char *buf = NULL;
	bool in_kernel = true;

	while (len > 0) {
		size_t chunk = len < COPY_CHUNK ? (size_t)len : COPY_CHUNK;
		loff_t from = (loff_t)src_offset;
		loff_t to = (loff_t)dst_offset;
		ssize_t n = -1;

		if (in_kernel)
			n = copy_file_range(src, &from, dst, &to, chunk, 0);
		if (n < 0 && in_kernel && errno != ENOSPC && errno != EIO && errno != EINTR) {
			in_kernel = false;
			buf = malloc(COPY_CHUNK);
			if (!buf)
				return -ENOMEM;
		}
		if (n < 0 && !in_kernel) {
			n = pread(src, buf, chunk, (off_t)src_offset);
			if (n > 0) {
				int r = io_write_all(dst, buf, (size_t)n, dst_offset);

				if (r < 0)
					return r;
			}
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		src_offset += (uint64_t)n;
		dst_offset += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

bool io_next_data(int fd, uint64_t at, uint64_t size, uint64_t *start_out, uint64_t *end_out)
{
	off_t data = at < size ? lseek(fd, (off_t)at, SEEK_DATA) : -1;
	off_t hole;

	if (at >= size || (data < 0 && errno == ENXIO))
		return false;
	hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (hole < 0) {
		data = (off_t)at;
		hole = (off_t)size;
	}
	if ((uint64_t)data >= size)
		return false;
	*start_out = (uint64_t)data;
	*end_out = (uint64_t)hole < size ? (uint64_t)hole : size;
	return true;
}

int io_copy_range(int src, uint64_t src_offset, int dst, uint64_t dst_offset, uint64_t len)
{
	uint64_t end = src_offset + len;
	uint64_t at = src_offset;

	while (at < end) {
		off_t data = lseek(src, (off_t)at, SEEK_DATA);
		off_t hole;
		uint64_t stop;
		int r;

		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return copy_data(src, at, dst, dst_offset + (at - src_offset), end - at);
		hole = lseek(src, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if ((uint64_t)data >= end)
			return 0;
		stop = (uint64_t)hole < end ? (uint64_t)hole : end;
		r = copy_data(src, (uint64_t)data, dst, dst_offset + ((uint64_t)data - src_offset),
		              stop - (uint64_t)data);
		if (r < 0)
			return r;
		at = stop;
	}
	return 0;
}

int io_reflink(int src, int dst, uint64_t len)
{
	return ioctl(dst, FICLONE, src) < 0 || ftruncate(dst, (off_t)len) < 0 ? -errno : 0;
}

int io_share_range(int src, uint64_t src_offset, int dst, uint64_t dst_offset, uint64_t len)
{
	struct file_clone_range range = {
		.src_fd = src, .src_offset = src_offset, .src_length = len, .dest_offset = dst_offset};

	return ioctl(dst, FICLONERANGE, &range) < 0 ? -errno : 0;
}

int io_copy_solid(int src, int dst, uint64_t offset, uint64_t len)
{
	cleanup_free char *buf = malloc(SOLID_CHUNK); /* a stack may be as small as that: see RLIMIT_STACK in getrlimit(2) */
	int r = buf ? 0 : -ENOMEM;

	while (r == 0 && len > 0) {
		size_t n = len < SOLID_CHUNK ? (size_t)len : SOLID_CHUNK;

		r = io_read_all(src, buf, n, offset);
		if (r == 0)
			r = io_write_all(dst, buf, n, offset);
		offset += n;
		len -= n;
	}
	return r;
}

int io_make_hole(int fd, uint64_t len)
{
	/* A short one first: where there are no holes, the whole would be written. */
	if (ftruncate(fd, HOLE_PROBE) < 0)
		return -errno;
	if (lseek(fd, 0, SEEK_DATA) >= 0 || errno != ENXIO)
		return -EOPNOTSUPP;
	return ftruncate(fd, (off_t)len) < 0 ? -errno : 0;
}

int io_clone(int src, int dst, uint64_t len)
{
	struct stat st;
	int r;

	if (len == 0)
		return 0;
	if (fstat(src, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size < len)
		return -EUCLEAN;
	if (io_reflink(src, dst, len) == 0)
		return 0;
	r = io_copy_range(src, 0, dst, 0, len);
	if (r < 0)
		return r;
	if (fstat(dst, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size == len)
		return 0;
	/* A hole at the end: here alone the length could be on disk before the bytes, and tell that they are. */
	return fdatasync(dst) < 0 || ftruncate(dst, (off_t)len) < 0 ? -errno : 0;
}

/*
 * Depth first without recursion: a subdirectory found is moved up beside the tree's root under a name that is
 * free, so neither the depth nor the open descriptors grow with the tree.
 */
static int lift(int top, int dir, const char *name, unsigned int *serial)
{
	char lifted[32];

	do {
		snprintf(lifted, sizeof(lifted), ".lifted-%u", (*serial)++);
		if (renameat2(dir, name, top, lifted, RENAME_NOREPLACE) == 0)
			return 0;
	} while (errno == EEXIST);
	return -errno;
}

int io_open_dir(int dirfd, const char *name, DIR **out)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	*out = fdopendir(fd);
	if (*out)
		return 0;
	r = -errno;
	close_fd(fd);
	return r;
}

static int empty_dir(int top, const char *name, unsigned int *serial)
{
	cleanup_dir DIR *dir = NULL;
	bool is_top = strcmp(name, ".") == 0;
	struct dirent *entry;
	int r = io_open_dir(top, name, &dir);

	if (r < 0)
		return r;
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (unlinkat(dirfd(dir), entry->d_name, 0) == 0 || errno == ENOENT)
			continue;
		if (errno != EISDIR && errno != EPERM)
			return -errno;
		if (unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR) == 0)
			continue;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return -errno;
		r = is_top ? empty_dir(top, entry->d_name, serial) : lift(top, dirfd(dir), entry->d_name, serial);
		if (r == 0 && is_top && unlinkat(top, entry->d_name, AT_REMOVEDIR) < 0)
			r = -errno;
		if (r < 0)
			return r;
	}
	return -errno;
}

int io_remove_tree(int dirfd, const char *name)
{
	cleanup_fd int top = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	unsigned int serial = 0;
	int r;

	if (top < 0 && (errno == ENOTDIR || errno == ELOOP))
		return unlinkat(dirfd, name, 0) < 0 ? -errno : 0;
	if (top < 0)
		return errno == ENOENT ? 0 : -errno;
	for (;;) {
		unsigned int before = serial;

		r = empty_dir(top, ".", &serial);
		if (r < 0)
			return r;
		if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0)
			return 0;
		if (errno != ENOTEMPTY || serial == before)
			return -errno;
	}
}

int io_replace_file(int dirfd, const char *name, const void *bytes, size_t len)
{
	char temporary[NAME_MAX + 1];
	cleanup_fd int fd = -1;
	int r;

	if (snprintf(temporary, sizeof(temporary), "%s.new", name) >= (int)sizeof(temporary))
		return -ENAMETOOLONG;
	unlinkat(dirfd, temporary, 0); /* of a process that died, or a FIFO; a directory stays, and is an error */
	fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = io_write_all(fd, bytes, len, 0);
	if (r == 0 && renameat(dirfd, temporary, dirfd, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(dirfd, temporary, 0);
	return r;
}

int io_check_regular(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? 0 : -EUCLEAN;
}

int io_open_regular(int dirfd, const char *path, int flags)
{
	cleanup_fd int seen = io_open_beneath(dirfd, path, O_PATH, 0);
	cleanup_fd int fd = -1;
	int r = seen < 0 ? seen : io_check_regular(seen);

	if (r < 0)
		return r;
	fd = io_open_beneath(dirfd, path, flags | O_NONBLOCK, 0);
	r = fd < 0 ? fd : io_check_regular(fd); /* it may be another one by now */
	return r < 0 ? r : take_fd(&fd);
}

int io_read_file(int dirfd, const char *name, size_t max, char **bytes_out, size_t *len_out)
{
	cleanup_fd int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	cleanup_free char *bytes = NULL;
	struct stat st;
	int r;

	if (fd < 0)
		return -errno;
	r = io_check_regular(fd);
	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return -errno;
	if ((uint64_t)st.st_size > max)
		return -EFBIG;
	bytes = malloc((size_t)st.st_size + 1);
	if (!bytes)
		return -ENOMEM;
	r = io_read_all(fd, bytes, (size_t)st.st_size, 0);
	if (r < 0)
		return r;
	bytes[st.st_size] = '\0';
	*len_out = (size_t)st.st_size;
	*bytes_out = take_ptr(&bytes);
	return 0;
}

int io_dir_empty(int dirfd, const char *name)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	int r = io_open_dir(dirfd, name, &dir);

	if (r < 0)
		return r;
	while ((errno = 0, entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			return -ENOTEMPTY;
	}
	return -errno;
}

int io_make_dir(int dirfd, const char *name, mode_t mode)
{
	int fd;

	if (mkdirat(dirfd, name, mode) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int io_disk_use(int topfd, const char *name, uint64_t *bytes_out)
{
	cleanup_dir DIR *dir = NULL;
	struct dirent *entry;
	uint64_t bytes = 0;
	int r = io_open_dir(topfd, name, &dir);

	if (r < 0)
		return r;
	while ((entry = readdir(dir))) {
		uint64_t below = 0;
		struct stat st;

		if (strcmp(entry->d_name, "..") == 0 ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		bytes += (uint64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode) && strcmp(entry->d_name, ".") != 0 &&
		    io_disk_use(dirfd(dir), entry->d_name, &below) == 0)
			bytes += below - (uint64_t)st.st_blocks * 512; /* it counted itself as "." */
	}
	*bytes_out = bytes;
	return 0;
}

bool io_lies_in(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return true;
	return strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

bool io_is_same(int a, int b)
{
	struct stat one, other;

	return a >= 0 && b >= 0 && fstat(a, &one) == 0 && fstat(b, &other) == 0 && one.st_dev == other.st_dev &&
	       one.st_ino == other.st_ino;
}
