/*
 * initramfs: packs the first process, its job and files for a guest.
 * Invariant: the archive depends on its contents only: owner root, time 0.
 * Called by umlfs-run.
 */
#include "umlfs/initramfs.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

enum { COPY_BYTES = 1 << 16, CPIO_FILE_MAX = 0xffffffff };

static int archive_failed(struct archive *a, const struct log *log)
{
	int error = archive_errno(a);

	return log_error(log, error > 0 ? -error : -EIO, "initramfs: %s", archive_error_string(a));
}

static int write_header(struct archive *a, const char *name, mode_t mode, off_t size, const struct log *log)
{
	struct archive_entry *entry = archive_entry_new();
	int r;

	if (!entry)
		return -ENOMEM;
	archive_entry_set_pathname(entry, name);
	archive_entry_set_mode(entry, mode);
	archive_entry_set_nlink(entry, 1);
	archive_entry_set_size(entry, size);
	archive_entry_set_mtime(entry, 0, 0);
	r = archive_write_header(a, entry);
	archive_entry_free(entry);
	return r == ARCHIVE_OK ? 0 : archive_failed(a, log);
}

static int write_data(struct archive *a, const void *data, size_t len, const struct log *log)
{
	return archive_write_data(a, data, len) == (la_ssize_t)len ? 0 : archive_failed(a, log);
}

static int copy_content(struct archive *a, int fd, off_t size, const char *path, const struct log *log)
{
	cleanup_free char *buf = malloc(COPY_BYTES);
	int r = 0;

	if (!buf)
		return -ENOMEM;
	while (r == 0 && size > 0) {
		ssize_t n = read(fd, buf, size < COPY_BYTES ? (size_t)size : COPY_BYTES);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return log_errno(log, -errno, "%s", path);
		if (n == 0)
			return log_error(log, -EBUSY, "%s: became shorter while it was read: try again", path);
		r = write_data(a, buf, (size_t)n, log);
		size -= n;
	}
	return r;
}

static int write_file(struct archive *a, const char *name, const char *path, const struct log *log)
{
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return log_errno(log, -errno, "%s", path);
	if (!S_ISREG(st.st_mode))
		return log_error(log, -EISDIR, "%s: is no regular file", path);
	if (st.st_size >= CPIO_FILE_MAX)
		return log_error(log, -EFBIG, "%s: an initramfs cannot hold 4 GiB: use a share", path);
	r = write_header(a, name, S_IFREG | (st.st_mode & 07777), st.st_size, log);
	return r < 0 ? r : copy_content(a, fd, st.st_size, path, log);
}

static int write_contents(struct archive *a, const struct initramfs *c, const struct log *log)
{
	static const char *const dirs[] = {"dev", "newroot", "files"};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++)
		r = write_header(a, dirs[i], S_IFDIR | 0755, 0, log);
	if (r == 0)
		r = write_file(a, "init", c->init, log);
	if (r == 0)
		r = write_header(a, "job", S_IFREG | 0600, (off_t)c->job_len, log);
	if (r == 0)
		r = write_data(a, c->job, c->job_len, log);
	for (size_t i = 0; r == 0 && i < c->n_files; i++) {
		char name[32];

		snprintf(name, sizeof(name), "files/%zu", i);
		r = write_file(a, name, c->files[i], log);
	}
	return r;
}

int initramfs_write(int fd, const struct initramfs *contents, const struct log *log)
{
	struct archive *a = archive_write_new();
	int r;

	if (!a)
		return -ENOMEM;
	if (archive_write_set_format_cpio_newc(a) != ARCHIVE_OK || archive_write_open_fd(a, fd) != ARCHIVE_OK)
		r = archive_failed(a, log);
	else
		r = write_contents(a, contents, log);
	if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
		r = archive_failed(a, log);
	archive_write_free(a);
	return r;
}
