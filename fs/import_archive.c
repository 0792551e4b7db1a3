/*
 * import_archive: owns libarchive's reader of the format.
 * Invariant: an archive is read whole, with all its checksums, or it is an error that names the member where
 * it ended.
 * Called by import and import_image.
 */
#include "import_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cleanup.h"
#include "format.h"
#include "import_acl.h"
#include "import_header.h"
#include "import_layer.h"
#include "import_source.h"
#include "import_stream.h"
#include "io.h"

enum {
	ISO_MAGIC_AT = 32769, /* ECMA-119: "CD001" in the first volume descriptor */
	TAR_BLOCK = 512,
	WHY_MAX = 400,
};

struct reader {
	const struct import_report *report;
	struct import_meter *meter;
	struct import_target *target;
	struct import_source *source;
	struct import_stream *stream; /* NULL: formats that are read from the source itself */
	struct archive *a;
	enum import_layer_pass pass; /* 0: no layer */
	bool open;                   /* libarchive knows the format; many of its functions crash before */
	char *last;                  /* the member that was read last */
	uint64_t n_members;
	int r; /* what reading the source ended with */
	struct import_header header;
};

static la_ssize_t give(struct archive *a, void *arg, const void **out)
{
	struct reader *rd = arg;
	ssize_t n;

	if (rd->stream)
		import_header_keep(&rd->header);
	n = rd->stream ? import_stream_read(rd->stream, out) : import_source_read(rd->source, out);
	if (n < 0) {
		rd->r = (int)n;
		archive_set_error(a, -rd->r, "read error");
		return ARCHIVE_FATAL;
	}
	import_header_give(&rd->header, *out, (size_t)n);
	return n;
}

static la_int64_t seek_source(struct archive *a, void *arg, la_int64_t offset, int whence)
{
	struct reader *rd = arg;
	int64_t at = import_source_seek(rd->source, offset, whence);

	if (at >= 0)
		return at;
	rd->r = (int)at;
	archive_set_error(a, -rd->r, "seek error");
	return ARCHIVE_FATAL;
}

/* After a failure of libarchive: why it was, in one line. */
static int broken(struct reader *rd)
{
	const char *text = archive_error_string(rd->a);
	char why[WHY_MAX];

	if (rd->meter->stopped)
		return -ECANCELED;
	if (rd->stream && import_stream_failure(rd->stream, &text) < 0)
		rd->r = import_stream_failure(rd->stream, &text);
	if (rd->r < 0 && rd->r != -EUCLEAN)
		return import_report_errno(rd->report, NULL, rd->r);
	if (archive_errno(rd->a) == ENOMEM)
		return import_report_errno(rd->report, NULL, -ENOMEM);
	if (rd->open && archive_read_has_encrypted_entries(rd->a) > 0)
		return import_report(rd->report, rd->last, -EPERM,
		                     "protected by a password: umlfs has none to give; import an archive without one");
	if (!rd->open && rd->r == 0)
		return import_report(rd->report, NULL, -EUCLEAN,
		                     "no archive that umlfs can read: give it tar, cpio, zip, 7-Zip or ISO 9660");
	snprintf(why, sizeof(why), "the archive is damaged or cut short%s (%s): get it again",
	         rd->last ? " here or right behind" : "", text ? text : "it makes no sense");
	return import_report(rd->report, rd->last, -EUCLEAN, why);
}

static int refuse(const struct reader *rd, const struct import_member *m, int r, const char *why)
{
	return import_report(rd->report, m->name, r, why);
}

/*
 * An attribute's name, on the heap. GNU tar writes '=' and '%' in it as '%3D' and '%25', bsdtar more bytes,
 * and libarchive leaves that as it is.
 */
static char *attribute_name(const char *name)
{
	char *out = malloc(strlen(name) + 1);
	char *to = out;

	while (out && *name) {
		unsigned int byte;

		if (name[0] == '%' && isxdigit((unsigned char)name[1]) && isxdigit((unsigned char)name[2]) &&
		    sscanf(name + 1, "%2x", &byte) == 1 && byte != 0) {
			*to++ = (char)byte;
			name += 3;
		} else {
			*to++ = *name++;
		}
	}
	if (out)
		*to = '\0';
	return out;
}

/* Every attribute that the member has, as a set on the heap. */
static int read_xattrs(struct reader *rd, struct archive_entry *entry, struct import_member *m, unsigned char **set)
{
	const char *written;
	const void *value;
	size_t value_len, set_len = 0;
	int r = 0;

	archive_entry_xattr_reset(entry);
	while (r == 0 && archive_entry_xattr_next(entry, &written, &value, &value_len) == ARCHIVE_OK) {
		cleanup_free char *name = attribute_name(written);
		unsigned char *grown;

		if (!name)
			r = -ENOMEM;
		else
			r = xattr_set_with((struct xattr_set){*set, set_len}, name, value ? value : "", value_len,
			                   &grown, &set_len);
		if (r == 0) {
			free(*set);
			*set = grown;
		}
	}
	if (r == 0)
		r = import_acl_add(entry, rd->report, m->name, set, &set_len, &m->mode);
	if (r == -ENOSPC || r == -E2BIG || r == -ERANGE)
		return refuse(rd, m, -E2BIG, "its extended attributes are longer than those of a Linux file can be");
	if (r < 0)
		return import_report_errno(rd->report, m->name, r);
	m->xattrs = (struct xattr_set){*set, set_len};
	return 0;
}

static int read_owner(const struct reader *rd, struct archive_entry *entry, struct import_member *m)
{
	int64_t uid = archive_entry_uid(entry);
	int64_t gid = archive_entry_gid(entry);

	if (uid < 0 || uid > UINT32_MAX || gid < 0 || gid > UINT32_MAX)
		return refuse(rd, m, -EUCLEAN, "its owner or group is no number that Linux has");
	m->uid = (uint32_t)uid;
	m->gid = (uint32_t)gid;
	return 0;
}

static void read_times(struct archive_entry *entry, struct import_member *m)
{
	m->mtime = (struct timespec){archive_entry_mtime(entry), archive_entry_mtime_nsec(entry)};
	m->ctime = m->mtime;
	if (archive_entry_ctime_is_set(entry))
		m->ctime = (struct timespec){archive_entry_ctime(entry), archive_entry_ctime_nsec(entry)};
}

/* What only some types have. */
static int read_kind(const struct reader *rd, struct archive_entry *entry, struct import_member *m)
{
	switch (m->mode & S_IFMT) {
	case S_IFLNK:
		m->target = archive_entry_symlink(entry);
		m->target_len = m->target ? strlen(m->target) : 0;
		if (m->target_len == 0)
			return refuse(rd, m, -EUCLEAN, "a symlink without a target");
		if (m->target_len > FORMAT_TARGET_MAX)
			return refuse(rd, m, -ENAMETOOLONG, "a symlink with a target of more than 4095 bytes");
		return 0;
	case S_IFCHR:
	case S_IFBLK:
		m->rdev = (uint64_t)(uint32_t)archive_entry_rdevmajor(entry) << 32 |
		          (uint32_t)archive_entry_rdevminor(entry);
		return 0;
	case S_IFREG:
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK:
		return 0;
	default:
		return refuse(rd, m, -EUCLEAN, "of a kind that no Linux file is");
	}
}

/* Writes the member's content into the open file of the target. */
static int copy_content(struct reader *rd, struct archive_entry *entry, const struct import_member *m)
{
	uint64_t size;

	for (;;) {
		la_int64_t offset;
		const void *bytes;
		size_t len;
		int r = archive_read_data_block(rd->a, &bytes, &len, &offset);

		if (r == ARCHIVE_EOF)
			break;
		if (r != ARCHIVE_OK)
			return broken(rd);
		r = import_target_write(rd->target, m, bytes, len, (uint64_t)offset);
		if (r == 0)
			r = import_meter_work(rd->meter, len);
		if (r < 0)
			return r;
	}
	/* zip tells some sizes only behind the content. */
	size = archive_entry_size_is_set(entry) ? (uint64_t)archive_entry_size(entry)
	                                        : import_target_written(rd->target);
	return import_target_end(rd->target, m, size);
}

static int add_link(struct reader *rd, struct archive_entry *entry, const struct import_member *m, const char *to)
{
	cleanup_free char *path = NULL;
	const char *why;
	size_t len;
	int r = import_member_path(to, &path, &len, &why);

	if (r < 0)
		return refuse(rd, m, r, "a hard link to a name that no base can hold");
	r = import_target_link(rd->target, m, path, len);
	/* cpio tells the content with the last of the names, tar with the first, some with each. */
	if (r < 0 || archive_entry_filetype(entry) != AE_IFREG || archive_entry_size(entry) <= 0)
		return r;
	r = import_target_rewrite(rd->target, m);
	return r < 0 ? r : copy_content(rd, entry, m);
}

static int add_member(struct reader *rd, struct archive_entry *entry, struct import_member *m)
{
	cleanup_free unsigned char *set = NULL;
	/* Some cpio writers give all directories one inode number and more links than one. */
	const char *to = archive_entry_filetype(entry) == AE_IFDIR ? NULL : archive_entry_hardlink(entry);
	int r;

	if (to)
		return add_link(rd, entry, m, to);
	m->mode = (uint32_t)archive_entry_filetype(entry) | import_header_mode(&rd->header, rd->a, entry);
	read_times(entry, m);
	r = read_owner(rd, entry, m);
	if (r == 0)
		r = read_kind(rd, entry, m);
	if (r == 0)
		r = read_xattrs(rd, entry, m, &set);
	if (r == 0)
		r = import_target_add(rd->target, m);
	if (r == 0 && S_ISREG(m->mode))
		r = copy_content(rd, entry, m);
	return r;
}

/* One header that was read: names it, and takes it in. */
static int take(struct reader *rd, struct archive_entry *entry)
{
	struct import_member m = {0};
	cleanup_free char *path = NULL;
	const char *why;
	int r;

	m.name = archive_entry_pathname(entry);
	if (!m.name)
		m.name = archive_entry_pathname_utf8(entry);
	if (!m.name)
		return import_report(rd->report, rd->last, -EUCLEAN, "the name of the member behind it cannot be read");
	free(rd->last);
	rd->last = strdup(m.name);
	if (!rd->last)
		return import_report_errno(rd->report, m.name, -ENOMEM);
	r = import_member_path(m.name, &path, &m.len, &why);
	if (r < 0)
		return refuse(rd, &m, r, why);
	m.path = path;
	r = import_layer_sort(rd->target, rd->report, rd->pass, &m, archive_entry_filetype(entry) == AE_IFDIR);
	if (r > 0)
		r = add_member(rd, entry, &m);
	if (r < 0)
		return r;
	rd->n_members++;
	return import_meter_entry(rd->meter);
}

/* libarchive could not use a part of a header. */
static void warn(const struct reader *rd, struct archive_entry *entry)
{
	const char *text = archive_error_string(rd->a);

	/* A name that is no text of the locale: in tar and cpio its bytes are all that is wanted. */
	if (rd->stream && text && strstr(text, "can't be converted"))
		return;
	import_report_warning(rd->report, archive_entry_pathname(entry), text ? text : "not understood in full");
}

/*
 * Reads what lies behind the archive's end mark: padding, and behind that the end of the compressed data,
 * where its checksums are.
 */
static int drain(struct reader *rd)
{
	const void *block = rd->header.block;
	ssize_t n = (ssize_t)import_header_untaken(&rd->header, rd->a);
	bool more = false;

	if (n > 0)
		block = (const unsigned char *)block + rd->header.len - n;
	do {
		more = more || !io_all_zero(block, (size_t)n);
		n = import_stream_read(rd->stream, &block);
	} while (n > 0);
	if (n < 0)
		return broken(rd);
	if (more)
		import_report_warning(rd->report, NULL,
		                      "something follows the archive's end: left out; an archive of "
		                      "several parts, as an initrd can be, has to be taken apart first");
	return 0;
}

/* before: bytes that were taken when the last member was done. */
static int finish(struct reader *rd, int64_t before)
{
	bool is_tar = (archive_format(rd->a) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_TAR;

	if (rd->n_members == 0 && rd->pass)
		return 0;
	if (rd->n_members == 0)
		return import_report(rd->report, NULL, -EUCLEAN, "the archive is empty");
	if (!rd->stream)
		return 0;
	/* libarchive takes the end of the data for the end of the archive, and a cut is where it likes. */
	if (is_tar && archive_filter_bytes(rd->a, 0) - before < TAR_BLOCK)
		return import_report(rd->report, rd->last, -EUCLEAN,
		                     "the archive is cut short right behind (no end mark): "
		                     "get it again");
	return drain(rd);
}

static int read_members(struct reader *rd)
{
	for (;;) {
		int64_t before = archive_filter_bytes(rd->a, 0);
		struct archive_entry *entry;
		int r = archive_read_next_header(rd->a, &entry);

		if (r == ARCHIVE_EOF)
			return finish(rd, before);
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return broken(rd);
		if (r == ARCHIVE_WARN)
			warn(rd, entry);
		r = take(rd, entry);
		if (r < 0)
			return r;
		if (archive_read_data_skip(rd->a) < ARCHIVE_WARN)
			return broken(rd);
	}
}

/* True for formats that lead the reader back and forth: they are not compressed as a whole. -errno. */
static int wants_seeking(struct import_source *source)
{
	static const struct magic {
		size_t at;
		const char *bytes;
		size_t len;
	} magics[] = {
		{0, "PK\3\4", 4},           {0, "PK\5\6", 4}, {0, "PK00PK\3\4", 8}, {0, "7z\xbc\xaf\x27\x1c", 6},
		{ISO_MAGIC_AT, "CD001", 5},
	};
	const unsigned char *start;
	ssize_t n = import_source_peek(source, ISO_MAGIC_AT + 5, &start);

	if (n < 0)
		return (int)n;
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++) {
		const struct magic *magic = &magics[i];

		if ((size_t)n >= magic->at + magic->len && memcmp(start + magic->at, magic->bytes, magic->len) == 0)
			return 1;
	}
	return 0;
}

static int open_formats(struct reader *rd, bool direct)
{
	int r = ARCHIVE_OK;

	rd->a = archive_read_new();
	if (!rd->a)
		return import_report_errno(rd->report, NULL, -ENOMEM);
	if (direct) {
		archive_read_support_format_zip(rd->a);
		archive_read_support_format_7zip(rd->a);
		archive_read_support_format_iso9660(rd->a);
		if (import_source_seekable(rd->source))
			archive_read_set_seek_callback(rd->a, seek_source);
	} else {
		archive_read_support_format_tar(rd->a);
		archive_read_support_format_cpio(rd->a);
		r = import_stream_new(rd->source, &rd->stream);
		if (r < 0)
			return import_report_errno(rd->report, NULL, r);
	}
	r = archive_read_open(rd->a, rd, NULL, give, NULL);
	rd->open = r >= ARCHIVE_WARN;
	return rd->open ? 0 : broken(rd);
}

static int read_source(struct reader *rd)
{
	const unsigned char *byte;
	ssize_t n = import_source_peek(rd->source, 1, &byte);
	locale_t locale, before;
	int r;

	if (n == 0)
		return import_report(rd->report, NULL, -EUCLEAN, "empty: no archive");
	r = n < 0 ? (int)n : wants_seeking(rd->source);
	if (r < 0)
		return rd->meter->stopped ? -ECANCELED : import_report_errno(rd->report, NULL, r);
	/*
	 * libarchive rewrites the names of pax headers, which should be UTF-8, for the locale: from C it
	 * turns back and hands out the bytes; in a UTF-8 locale it would compose accents. The other formats
	 * have text for names.
	 */
	locale = newlocale(LC_ALL_MASK, r ? "C.UTF-8" : "C", (locale_t)0);
	if (!locale)
		locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
	before = uselocale(locale);
	r = open_formats(rd, r);
	if (r == 0)
		r = read_members(rd);
	uselocale(before);
	if (locale)
		freelocale(locale);
	return r;
}

static int read_archive(struct reader rd)
{
	int r = read_source(&rd);

	archive_read_free(rd.a);
	import_stream_free(rd.stream);
	free(rd.last);
	return r;
}

int import_archive(struct import_source *source, const struct import_report *report, struct import_meter *meter,
                   struct import_target *target)
{
	return read_archive((struct reader){.report = report, .meter = meter, .target = target, .source = source});
}

int import_archive_layer(struct import_source *source, enum import_layer_pass pass, const struct import_report *report,
                         struct import_meter *meter, struct import_target *target)
{
	return read_archive(
		(struct reader){.report = report, .meter = meter, .target = target, .source = source, .pass = pass});
}
