/*
 * import_blobs: owns the layout's directory, or the files that an archive had, all in one file.
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
#include <unistd.h>

#include "cleanup.h"
#include "format.h"
#include "import_member.h"
#include "import_stream.h"
#include "io.h"

enum {
	DIRS_MAX = 4096,   /* in front of the first file of an image */
	FILES_MAX = 16384, /* docker saves three for each layer, and several images in one archive */
	LINKS_MAX = 8,     /* one after the other */
	SHA256_HEX = 64,
};

struct file {
	char *path;
	uint64_t at, len; /* in the file of all */
	char *target;     /* of a link, as a path of the layout; NULL: a file */
};

struct import_blobs {
	const struct import_report *report;
	struct import_meter *meter;
	int dirfd;    /* -1: an archive */
	int packed;   /* the bytes of its files one after another: a descriptor for each would be too many */
	uint64_t end; /* of them */
	struct import_stream *stream; /* while it is unpacked */
	struct file *files;
	size_t n;
};

/* What `docker save` and tools that do as it does begin with: "HEX/VERSION", "HEX.tar", "HEX.json", "sha256:HEX". */
static bool is_saved_name(const char *name)
{
	static const char *const ends[] = {"", ".json", ".tar", ".tar.gz", "/VERSION", "/json", "/layer.tar"};
	bool told = strncmp(name, "sha256:", 7) == 0;
	const char *end;

	name += told ? 7 : 0;
	end = name + strspn(name, "0123456789abcdef");
	for (size_t i = told ? 0 : 1; end - name == SHA256_HEX && i < sizeof(ends) / sizeof(ends[0]); i++) {
		if (strcmp(end, ends[i]) == 0)
			return true;
	}
	return false;
}

/* Names that only archives of images begin with. */
static bool is_image_name(const char *name)
{
	while (*name == '.' && name[1] == '/')
		name += 2;
	return strncmp(name, "blobs/sha", 9) == 0 || strcmp(name, "oci-layout") == 0 ||
	       strcmp(name, "index.json") == 0 || strcmp(name, "manifest.json") == 0 || is_saved_name(name);
}

static la_ssize_t give(struct archive *a, void *arg, const void **out)
{
	ssize_t n = import_stream_read(arg, out);

	if (n < 0)
		archive_set_error(a, (int)-n, "read error");
	return n < 0 ? ARCHIVE_FATAL : n;
}

/* Whether the first member that is no directory has such a name. */
static bool first_is_of_image(struct archive *a)
{
	struct archive_entry *entry;

	for (int i = 0; i < DIRS_MAX; i++) {
		int r = archive_read_next_header(a, &entry);

		if (r < ARCHIVE_WARN || r == ARCHIVE_EOF)
			return false;
		if (archive_entry_filetype(entry) != AE_IFDIR)
			return archive_entry_pathname(entry) && is_image_name(archive_entry_pathname(entry));
	}
	return false;
}

/* 1, 0, or -errno. What is no sound archive is none of an image: who reads it whole says what is wrong with it. */
static int begins_as_image(struct import_stream *stream)
{
	struct archive *a = archive_read_new();
	bool found = false, no_memory = !a;
	const char *why;
	int r;

	if (a) {
		archive_read_support_format_tar(a);
		if (archive_read_open(a, stream, NULL, give, NULL) == ARCHIVE_OK)
			found = first_is_of_image(a);
		no_memory = archive_errno(a) == ENOMEM;
		archive_read_free(a);
	}
	r = no_memory ? -ENOMEM : import_stream_failure(stream, &why);
	return r < 0 && r != -EUCLEAN ? r : found;
}

int import_blobs_look(struct import_source *source, const struct import_report *report)
{
	struct import_stream *stream = NULL;
	bool found;
	int r;

	import_source_look(source);
	r = import_stream_new(source, &stream);
	if (r == 0)
		r = begins_as_image(stream);
	import_stream_free(stream);
	found = r > 0;
	if (r >= 0)
		r = import_source_rewind(source);
	if (r == -E2BIG)
		return import_report(
			report, NULL, r,
			"its first 64 MiB do not tell whether it is of an image: put it into a file, and import that");
	if (r < 0)
		return r == -ECANCELED ? r : import_report_errno(report, NULL, r);
	return found;
}

bool import_blobs_is_layout(int fd)
{
	return faccessat(fd, "oci-layout", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	       faccessat(fd, "index.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static int damaged(const struct import_blobs *b, struct archive *a, const char *name)
{
	const char *text = archive_error_string(a);
	int r = import_stream_failure(b->stream, &text);

	if (b->meter->stopped)
		return -ECANCELED;
	if (r < 0 && r != -EUCLEAN)
		return import_report_errno(b->report, name, r);
	return import_report(b->report, name, -EUCLEAN, text ? text : "the archive is damaged");
}

/* Appends to the file of all. */
static int unpack(struct import_blobs *b, struct archive *a, struct archive_entry *entry, struct file *file)
{
	uint64_t limit = (uint64_t)INT64_MAX - b->end;
	uint64_t size = (uint64_t)archive_entry_size(entry); /* a sparse file may end behind its last block */
	const void *bytes;
	la_int64_t offset;
	size_t len;
	int got, r = size > limit ? -EFBIG : 0;

	file->at = b->end;
	file->len = size;
	while (r == 0 && (got = archive_read_data_block(a, &bytes, &len, &offset)) != ARCHIVE_EOF) {
		if (got != ARCHIVE_OK || (uint64_t)offset + len > size)
			return damaged(b, a, file->path);
		r = io_write_all(b->packed, bytes, len, file->at + (uint64_t)offset);
	}
	b->end += size;
	if (r == 0 && ftruncate(b->packed, (off_t)b->end) < 0)
		r = -errno;
	return r < 0 ? import_report_errno(b->report, file->path, r) : 0;
}

/* Adds an entry with its path. */
static int add_entry(struct import_blobs *b, const char *name, struct file **out)
{
	struct file *grown;
	const char *why;
	size_t len;
	int r;

	if (b->n == FILES_MAX)
		return import_report(b->report, name, -E2BIG, "more files than an image has");
	grown = reallocarray(b->files, b->n + 1, sizeof(*grown));
	if (!grown)
		return import_report_errno(b->report, name, -ENOMEM);
	b->files = grown;
	grown[b->n] = (struct file){0};
	r = import_member_path(name, &grown[b->n].path, &len, &why);
	if (r < 0)
		return import_report(b->report, name, r, why);
	*out = &grown[b->n++];
	return 0;
}

static int add_file(struct import_blobs *b, struct archive *a, struct archive_entry *entry)
{
	struct file *file;
	int r = add_entry(b, archive_entry_pathname(entry), &file);

	return r < 0 ? r : unpack(b, a, entry, file);
}

/* Docker saves a layer that comes again as a link "../HEX/layer.tar"; links that lead elsewhere are none of an image's. */
static int add_link(struct import_blobs *b, const char *name, const char *target)
{
	struct file *file;
	int r;

	if (strncmp(target, "../", 3) != 0)
		return 0;
	r = add_entry(b, name, &file);
	if (r < 0)
		return r;
	file->target = strdup(target + 3);
	return file->target ? 0 : import_report_errno(b->report, name, -ENOMEM);
}

static int unpack_archive(struct import_blobs *b)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	int r = 0;
	int got = ARCHIVE_EOF;

	if (!a)
		return import_report_errno(b->report, NULL, -ENOMEM);
	archive_read_support_format_tar(a);
	if (archive_read_open(a, b->stream, NULL, give, NULL) != ARCHIVE_OK)
		r = damaged(b, a, NULL);
	while (r == 0 && (got = archive_read_next_header(a, &entry)) >= ARCHIVE_WARN && got != ARCHIVE_EOF) {
		const char *name = archive_entry_pathname(entry);

		if (name && archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry))
			r = add_file(b, a, entry);
		else if (name && archive_entry_symlink(entry))
			r = add_link(b, name, archive_entry_symlink(entry));
	}
	if (r == 0 && got != ARCHIVE_EOF)
		r = damaged(b, a, NULL);
	archive_read_free(a);
	return r;
}

/* A file that vanishes with the process, on file systems that have no O_TMPFILE as well. */
static int open_nameless(int root)
{
	/* No archive has a file of this name, and import_place removes one that a killed import left. */
	cleanup_fd int fd = openat(root, FORMAT_OWN_DIR, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0 || unlinkat(root, FORMAT_OWN_DIR, 0) < 0)
		return -errno;
	return take_fd(&fd);
}

static int unpack_source(struct import_blobs *b, struct import_source *source, int root)
{
	int r = open_nameless(root);

	if (r >= 0) {
		b->packed = r;
		r = import_stream_new(source, &b->stream);
	}
	if (r < 0)
		return import_report_errno(b->report, NULL, r);
	r = unpack_archive(b);
	import_stream_free(b->stream);
	b->stream = NULL;
	return r;
}

static struct import_blobs *new_blobs(const struct import_report *report, struct import_meter *meter, int dirfd)
{
	struct import_blobs *b = calloc(1, sizeof(*b));

	if (b)
		*b = (struct import_blobs){.report = report, .meter = meter, .dirfd = dirfd, .packed = -1};
	else
		import_report_errno(report, NULL, -ENOMEM);
	return b;
}

int import_blobs_new(struct import_source *source, int root, const struct import_report *report,
                     struct import_meter *meter, struct import_blobs **out)
{
	struct import_blobs *b = new_blobs(report, meter, -1);
	int r = b ? unpack_source(b, source, root) : -ENOMEM;

	if (r < 0)
		import_blobs_free(b);
	else
		*out = b;
	return r;
}

int import_blobs_new_dir(int fd, const struct import_report *report, struct import_meter *meter,
                         struct import_blobs **out)
{
	struct import_blobs *b = new_blobs(report, meter, fd);

	if (!b)
		return -ENOMEM;
	*out = b;
	return 0;
}

void import_blobs_free(struct import_blobs *b)
{
	if (!b)
		return;
	for (size_t i = 0; i < b->n; i++) {
		free(b->files[i].path);
		free(b->files[i].target);
	}
	free(b->files);
	close_fd(b->packed);
	close_fd(b->dirfd);
	free(b);
}

/* What comes twice is what it was the last time. */
static const struct file *find(const struct import_blobs *b, const char *path)
{
	for (size_t i = b->n; i-- > 0;) {
		if (strcmp(b->files[i].path, path) == 0)
			return &b->files[i];
	}
	return NULL;
}

static int open_packed(const struct import_blobs *b, const char *path, struct import_blob *out)
{
	const struct file *file = find(b, path);
	int fd;

	for (int i = 0; file && file->target && i < LINKS_MAX; i++)
		file = find(b, file->target);
	if (!file || file->target)
		return -ENOENT;
	fd = fcntl(b->packed, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	*out = (struct import_blob){.fd = fd, .at = file->at, .len = file->len};
	return 0;
}

int import_blobs_open(const struct import_blobs *b, const char *path, struct import_blob *out)
{
	cleanup_fd int fd = -1;
	struct stat st;

	if (b->dirfd < 0)
		return open_packed(b, path, out);
	fd = io_open_beneath(b->dirfd, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*out = (struct import_blob){.fd = take_fd(&fd), .len = (uint64_t)st.st_size};
	return 0;
}
