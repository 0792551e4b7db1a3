/*
 * import_blobs: owns the layout's directory, or the files that an archive had.
 * Invariant: nothing outside the layout is opened; what is unpacked vanishes with the process.
 * Called by import_image and import.
 */
#include "import_blobs.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "import_member.h"
#include "io.h"

enum {
	PEEK = 256 << 10,
	READ_BLOCK = 256 << 10,
	FILES_MAX = 512, /* an image has a layer or two for each line of its recipe */
};

struct file {
	char *path;
	int fd;
};

struct import_blobs {
	const struct import_report *report;
	struct import_meter *meter;
	int dirfd; /* -1: an archive */
	struct file *files;
	size_t n;
};

/* Names that only archives of images begin with. */
static bool is_image_name(const char *name)
{
	while (*name == '.' && name[1] == '/')
		name += 2;
	return strncmp(name, "blobs/sha", 9) == 0 || strcmp(name, "oci-layout") == 0 ||
	       strcmp(name, "index.json") == 0 || strcmp(name, "manifest.json") == 0;
}

/* The first member that is no directory, of the archive's first bytes. */
static bool begins_as_image(const void *bytes, size_t len)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	bool found = false;

	if (!a)
		return false;
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_bzip2(a);
	archive_read_support_format_tar(a);
	if (archive_read_open_memory(a, bytes, len) == ARCHIVE_OK) {
		while (archive_read_next_header(a, &entry) >= ARCHIVE_WARN) {
			if (archive_entry_filetype(entry) == AE_IFDIR)
				continue;
			found = archive_entry_pathname(entry) && is_image_name(archive_entry_pathname(entry));
			break;
		}
	}
	archive_read_free(a);
	return found;
}

int import_blobs_look(int fd)
{
	cleanup_free void *bytes = NULL;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return faccessat(fd, "oci-layout", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
		       faccessat(fd, "index.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (!S_ISREG(st.st_mode)) /* what a pipe brings cannot be looked at twice */
		return 0;
	bytes = malloc(PEEK);
	if (!bytes)
		return -ENOMEM;
	n = pread(fd, bytes, PEEK, 0);
	return n < 0 ? -errno : begins_as_image(bytes, (size_t)n);
}

static int damaged(const struct import_blobs *b, struct archive *a, const char *name)
{
	return import_report(b->report, name, -EUCLEAN,
	                     archive_error_string(a) ? archive_error_string(a) : "the archive is damaged");
}

static int unpack(struct import_blobs *b, struct archive *a, const char *name, int fd)
{
	const void *bytes;
	la_int64_t offset;
	size_t len;
	int r;

	while ((r = archive_read_data_block(a, &bytes, &len, &offset)) == ARCHIVE_OK) {
		int status = io_write_all(fd, bytes, len, (uint64_t)offset);

		if (status < 0)
			return import_report_errno(b->report, name, status);
		b->meter->now.bytes += len;
		status = import_meter_work(b->meter, len);
		if (status < 0)
			return status;
	}
	return r == ARCHIVE_EOF ? 0 : damaged(b, a, name);
}

static int add_file(struct import_blobs *b, struct archive *a, const char *name, int root)
{
	cleanup_fd int fd = openat(root, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	struct file *grown;
	const char *why;
	size_t len;
	int r;

	if (fd < 0)
		return import_report(b->report, name, -errno,
		                     "the base's file system cannot hold files without a name: unpack the image, and "
		                     "import the directory");
	if (b->n == FILES_MAX)
		return import_report(b->report, name, -E2BIG, "more files than an image has");
	grown = reallocarray(b->files, b->n + 1, sizeof(*grown));
	if (!grown)
		return import_report_errno(b->report, name, -ENOMEM);
	b->files = grown;
	grown[b->n] = (struct file){.fd = -1};
	r = import_member_path(name, &grown[b->n].path, &len, &why);
	if (r < 0)
		return import_report(b->report, name, r, why);
	r = unpack(b, a, name, fd);
	grown[b->n++].fd = take_fd(&fd);
	return r;
}

static int unpack_archive(struct import_blobs *b, int fd, int root)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	int r = 0;
	int got = ARCHIVE_EOF;

	if (!a)
		return import_report_errno(b->report, NULL, -ENOMEM);
	archive_read_support_filter_all(a);
	archive_read_support_format_tar(a);
	if (archive_read_open_fd(a, fd, READ_BLOCK) != ARCHIVE_OK)
		r = damaged(b, a, NULL);
	while (r == 0 && (got = archive_read_next_header(a, &entry)) >= ARCHIVE_WARN && got != ARCHIVE_EOF) {
		const char *name = archive_entry_pathname(entry);

		if (name && archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry))
			r = add_file(b, a, name, root);
	}
	if (r == 0 && got != ARCHIVE_EOF)
		r = damaged(b, a, NULL);
	archive_read_free(a);
	return r;
}

int import_blobs_new(int fd, int root, const struct import_report *report, struct import_meter *meter,
                     struct import_blobs **out)
{
	struct import_blobs *b = calloc(1, sizeof(*b));
	struct stat st;
	int r = b ? 0 : -ENOMEM;

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		free(b);
		return import_report_errno(report, NULL, r);
	}
	*b = (struct import_blobs){.report = report, .meter = meter, .dirfd = -1};
	if (S_ISDIR(st.st_mode)) {
		b->dirfd = fd;
	} else {
		r = unpack_archive(b, fd, root);
		if (r < 0) {
			import_blobs_free(b);
			return r;
		}
		close_fd(fd);
	}
	*out = b;
	return 0;
}

void import_blobs_free(struct import_blobs *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++) {
		close_fd(b->files[i].fd);
		free(b->files[i].path);
	}
	free(b->files);
	close_fd(b->dirfd);
	free(b);
}

int import_blobs_open(const struct import_blobs *b, const char *path)
{
	cleanup_fd int fd = -1;
	struct stat st;

	for (size_t i = b->n; b->dirfd < 0 && fd < 0 && i-- > 0;) { /* what comes twice is what it was the last time */
		if (strcmp(b->files[i].path, path) == 0)
			fd = fcntl(b->files[i].fd, F_DUPFD_CLOEXEC, 0);
	}
	if (b->dirfd >= 0)
		fd = io_open_beneath(b->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
	if (b->dirfd >= 0 && fd < 0)
		return fd;
	if (fd < 0)
		return -ENOENT;
	if (fstat(fd, &st) < 0 || lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? take_fd(&fd) : -EINVAL;
}
