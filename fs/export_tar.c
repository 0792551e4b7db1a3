/*
 * export_tar: owns libarchive's writer.
 * Invariant: the archive's bytes depend on the state alone, not on who exports it where and when.
 * Called by export.
 */
#include "export_tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "export_acl.h"

enum {
	BLOCK = 512,          /* of tar */
	OLD_HEADER_MIN = 100, /* bytes of a path for which the header has room whatever its form */
	CHUNK = 256 << 10,
	ZEROS = 64 << 20, /* of address space: what is given to libarchive for holes, which it leaves out */
};

struct export_tar {
	const struct export_options *o;
	struct state *state;
	struct import_meter *meter;
	struct archive *a;
	int fd;
	bool given_up; /* nothing more is written */
	struct archive_entry *entry;
	locale_t locale, before;
	unsigned char *chunk;
	const void *zeros;
	struct export_result result;
};

static int failed(const struct export_tar *t, const char *path)
{
	const char *text = archive_error_string(t->a);
	int r = archive_errno(t->a) > 0 ? -archive_errno(t->a) : -EIO;

	return log_error(t->o->log, r, "%s: %s%s%s", t->o->file, path ? path : "", path ? ": " : "",
	                 text ? text : "cannot be written");
}

/* What the end of a file's name promises; NONE: what is not written here. */
enum coding { CODING_PLAIN, CODING_GZIP, CODING_XZ, CODING_ZSTD, CODING_NONE };

static enum coding coding_of(const char *file)
{
	static const struct {
		const char *ends;
		enum coding coding;
	} known[] = {
		{".gz.tgz.", CODING_GZIP},
		{".xz.txz.", CODING_XZ},
		{".zst.tzst.", CODING_ZSTD},
		{".bz2.tbz.tbz2.tb2.tz2.lz4.tlz4.lzma.tlz.lz.lzo.tzo.z.tz.taz.br.tbr.lrz.sz.", CODING_NONE},
		{".gzip.bzip2.zstd.zip.7z.rar.cpio.iso.squashfs.sqfs.", CODING_NONE},
	};
	const char *dot = strrchr(file, '.');
	char end[16];

	if (!dot || strchr(dot, '/') || snprintf(end, sizeof(end), "%s.", dot) >= (int)sizeof(end))
		return CODING_PLAIN;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcasestr(known[i].ends, end))
			return known[i].coding;
	}
	return CODING_PLAIN;
}

int export_tar_check_name(const struct export_options *options)
{
	if (coding_of(options->file) != CODING_NONE)
		return 0;
	return log_error(options->log, -EINVAL,
	                 "%s: cannot be written as its name says: name it .tar, .tar.gz, .tar.xz or .tar.zst",
	                 options->file);
}

static int compress_as_named(struct archive *a, const char *file)
{
	int r;

	switch (coding_of(file)) {
	case CODING_GZIP:
		r = archive_write_add_filter_gzip(a);
		return r == ARCHIVE_OK ? archive_write_set_filter_option(a, "gzip", "timestamp", NULL) : r;
	case CODING_XZ:
		return archive_write_add_filter_xz(a);
	case CODING_ZSTD:
		return archive_write_add_filter_zstd(a);
	default:
		return ARCHIVE_OK;
	}
}

static la_ssize_t put_bytes(struct archive *a, void *arg, const void *bytes, size_t len)
{
	const struct export_tar *t = arg;
	ssize_t n;

	do {
		errno = ECANCELED;
		n = t->given_up ? -1 : write(t->fd, bytes, len);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		archive_set_error(a, errno, "%s", strerror(errno));
	return n;
}

/* A file or a pipe ends where the archive does; on a device, which may be a tape, the last block is a whole one. */
static int open_archive(struct export_tar *t)
{
	struct stat st;

	if (fstat(t->fd, &st) < 0 || !(S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)))
		archive_write_set_bytes_in_last_block(t->a, 1);
	return archive_write_open(t->a, t, NULL, put_bytes, NULL);
}

static int start(struct export_tar *t)
{
	int r = archive_write_set_format_pax(t->a);

	/* The form that others know; libarchive's own would hold everything twice. */
	if (r == ARCHIVE_OK)
		r = archive_write_set_format_option(t->a, "pax", "xattrheader", "SCHILY");
	if (r == ARCHIVE_OK)
		r = compress_as_named(t->a, t->o->file);
	if (r == ARCHIVE_OK)
		r = open_archive(t);
	return r == ARCHIVE_OK ? 0 : failed(t, NULL);
}

int export_tar_new(int fd, const struct export_options *options, struct state *state, struct import_meter *meter,
                   struct export_tar **out)
{
	struct export_tar *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return log_errno(options->log, -ENOMEM, "%s", options->file);
	t->o = options;
	t->fd = fd;
	t->state = state;
	t->meter = meter;
	/* In C all names that are not ASCII would be marked as of no known character set. */
	t->locale = newlocale(LC_ALL_MASK, "C.UTF-8", (locale_t)0);
	t->before = t->locale ? uselocale(t->locale) : (locale_t)0;
	t->a = archive_write_new();
	t->entry = archive_entry_new();
	t->chunk = malloc(CHUNK);
	t->zeros = mmap(NULL, ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!t->a || !t->entry || !t->chunk || t->zeros == MAP_FAILED)
		r = log_errno(options->log, -ENOMEM, "%s", options->file);
	else
		r = start(t);
	if (r < 0) {
		export_tar_free(t);
		return r;
	}
	*out = t;
	return 0;
}

void export_tar_free(struct export_tar *t)
{
	if (!t)
		return;
	archive_entry_free(t->entry);
	if (t->a) {
		/* By itself libarchive does not close what has failed, and all that its filters hold would leak. */
		t->given_up = true;
		archive_write_close(t->a);
		archive_write_free(t->a);
	}
	if (t->locale) {
		uselocale(t->before);
		freelocale(t->locale);
	}
	if (t->zeros && t->zeros != MAP_FAILED)
		munmap((void *)(uintptr_t)t->zeros, ZEROS);
	free(t->chunk);
	free(t);
}

/*
 * Before 1970 libarchive writes seconds and fraction side by side, and reads them so: 4.5 s before it are -5.5, which others take as it
 * stands. What its writer could be given to put -4.5 its reader would get wrong, and -0.5 it cannot write at all.
 */
static void set_times(struct export_tar *t, const struct inode *i)
{
	struct timespec m = i->mtime;

	if (t->o->has_epoch && (m.tv_sec > t->o->epoch || (m.tv_sec == t->o->epoch && m.tv_nsec > 0)))
		m = (struct timespec){.tv_sec = (time_t)t->o->epoch};
	archive_entry_set_mtime(t->entry, m.tv_sec, m.tv_nsec);
	/* A reader takes the one for the other where it is not told. */
	if (!t->o->has_epoch && (i->ctime.tv_sec != m.tv_sec || i->ctime.tv_nsec != m.tv_nsec))
		archive_entry_set_ctime(t->entry, i->ctime.tv_sec, i->ctime.tv_nsec);
}

static int set_xattrs(struct export_tar *t, const struct inode *i)
{
	cleanup_free char *names = NULL;
	struct xattr_set set;
	ssize_t len;
	int r = stack_xattrs(&t->state->session.stack, i->ino, &set);

	len = r < 0 ? r : xattr_set_list(set, NULL, 0);
	if (len <= 0)
		return (int)len;
	names = malloc((size_t)len);
	if (!names)
		return -ENOMEM;
	xattr_set_list(set, names, (size_t)len);
	for (const char *name = names; name < names + len; name += strlen(name) + 1) {
		const void *value;
		ssize_t value_len = xattr_set_get(set, name, &value);

		archive_entry_xattr_add_entry(t->entry, name, value, (size_t)value_len);
	}
	return export_acl_add(t->entry, set);
}

/*
 * Two surrogates, each in the form of UTF-8, are taken by libarchive for one character, which it writes in their stead: the name would
 * come out as another one.
 */
static int check_text(const struct export_tar *t, const char *path, const char *text)
{
	for (const char *p = strchr(text, 0xed); p; p = strchr(p + 1, 0xed)) {
		const unsigned char *b = (const unsigned char *)p;

		if ((b[1] & 0xf0) == 0xa0 && (b[2] & 0xc0) == 0x80 && b[3] == 0xed && (b[4] & 0xf0) == 0xb0 &&
		    (b[5] & 0xc0) == 0x80)
			return log_error(t->o->log, -EINVAL,
			                 "%s: %s surrogates, which the archive cannot hold: give it another", path,
			                 path == text ? "its name has" : "it is a symlink to a name with");
	}
	return 0;
}

static int set_target(struct export_tar *t, const char *path, const struct inode *i)
{
	cleanup_free char *copy = NULL;
	const char *target;
	size_t len;
	int r = stack_target(&t->state->session.stack, i->ino, &target, &len);

	if (r < 0)
		return r;
	copy = strndup(target, len);
	if (!copy)
		return -ENOMEM;
	archive_entry_copy_symlink(t->entry, copy);
	return check_text(t, path, copy);
}

/*
 * The next stretch of the file that is written, at or behind `at`, which is 0 or where the one before ended: 1, 0 when there is
 * none, or -errno. In whole blocks of tar, because GNU tar looks for a stretch at the beginning of a block, and
 * misplaces all that comes behind one that ends elsewhere. Two may touch: libarchive joins them.
 */
static int next_stretch(struct export_tar *t, const struct inode *i, uint64_t at, uint64_t *from_out, uint64_t *to_out)
{
	uint64_t data, end, over;
	int r = state_next_data(t->state, i, at, &data, &end);

	if (r <= 0)
		return r;
	over = end % BLOCK;
	if (over > 0)
		end = i->size - end < BLOCK - over ? i->size : end + BLOCK - over;
	*from_out = data - data % BLOCK;
	*to_out = end;
	return 1;
}

/*
 * True of a path that libarchive would get wrong if the file had holes: where its bytes are no characters, GNU.sparse.name is
 * made of what the old header has room for, a shorter path that may be another file's.
 */
static bool loses_path(const struct export_tar *t, const char *path)
{
	if (strlen(path) <= OLD_HEADER_MIN)
		return false;
	for (const char *p = path; !t->locale && *p; p++) {
		if ((unsigned char)*p >= 0x80)
			return true;
	}
	return t->locale && mbstowcs(NULL, path, 0) == (size_t)-1;
}

/* Tells libarchive where the data is, when not everywhere. */
static int set_sparse(struct export_tar *t, const char *path, const struct inode *i)
{
	uint64_t at = 0, data = 0, end = 0, total = 0;
	int r;

	if (loses_path(t, path))
		return 0; /* the holes are written as zeros */
	while ((r = next_stretch(t, i, at, &data, &end)) > 0) {
		archive_entry_sparse_add_entry(t->entry, (la_int64_t)data, (la_int64_t)(end - data));
		total += end - data;
		at = end;
	}
	if (r == 0 && total == i->size)
		archive_entry_sparse_clear(t->entry);
	else if (r == 0 && total == 0)
		archive_entry_sparse_add_entry(t->entry, (la_int64_t)i->size, 0);
	return r;
}

static int describe(struct export_tar *t, const struct inode *i)
{
	archive_entry_set_mode(t->entry, i->mode);
	archive_entry_set_uid(t->entry, i->uid);
	archive_entry_set_gid(t->entry, i->gid);
	set_times(t, i);
	if (S_ISCHR(i->mode) || S_ISBLK(i->mode)) {
		archive_entry_set_rdevmajor(t->entry, (dev_t)(i->rdev >> 32));
		archive_entry_set_rdevminor(t->entry, (dev_t)(i->rdev & UINT32_MAX));
	}
	return set_xattrs(t, i);
}

static int put(struct export_tar *t, const char *path, const void *bytes, uint64_t len)
{
	la_ssize_t n = archive_write_data(t->a, bytes, (size_t)len);
	int r;

	if (n < 0 || (uint64_t)n != len)
		return failed(t, path);
	t->meter->now.bytes += len;
	r = import_meter_work(t->meter, len);
	return r;
}

static int put_hole(struct export_tar *t, const char *path, uint64_t from, uint64_t to)
{
	int r = 0;

	while (r == 0 && from < to) {
		uint64_t len = to - from < ZEROS ? to - from : ZEROS;

		r = put(t, path, t->zeros, len);
		from += len;
	}
	return r;
}

static int put_data(struct export_tar *t, const char *path, const struct inode *i, uint64_t from, uint64_t to)
{
	int r = 0;

	while (r == 0 && from < to) {
		uint64_t want = to - from < CHUNK ? to - from : CHUNK;
		ssize_t n = tree_read(&t->state->tree, i->ino, t->chunk, (size_t)want, from);

		if (n < 0)
			return (int)n;
		memset(t->chunk + n, 0, (size_t)want - (size_t)n);
		r = put(t, path, t->chunk, want);
		from += want;
	}
	return r;
}

static int put_content(struct export_tar *t, const char *path, const struct inode *i)
{
	uint64_t at = 0, data, end;
	int r;

	while ((r = next_stretch(t, i, at, &data, &end)) > 0) {
		r = put_hole(t, path, at, data);
		if (r == 0)
			r = put_data(t, path, i, data, end);
		if (r < 0)
			return r;
		at = end;
	}
	return r < 0 ? r : put_hole(t, path, at, i->size);
}

static int put_header(struct export_tar *t, const char *path)
{
	int r = archive_write_header(t->a, t->entry);

	if (r < ARCHIVE_WARN)
		return failed(t, path);
	t->result.entries++;
	return import_meter_entry(t->meter);
}

/* With a slash behind a directory's name, as tar has them; "./" for the root. */
static int set_path(struct export_tar *t, const char *path, bool is_dir)
{
	cleanup_free char *name = malloc(strlen(path) + 3);

	if (!name)
		return log_errno(t->o->log, -ENOMEM, "%s", t->o->file);
	strcpy(name, *path ? path : ".");
	if (is_dir)
		strcat(name, "/");
	archive_entry_clear(t->entry);
	archive_entry_copy_pathname(t->entry, name);
	return check_text(t, path, path);
}

int export_tar_add(struct export_tar *t, const char *path, const struct inode *i, const char *first)
{
	bool has_content = S_ISREG(i->mode) && !first;
	int r = set_path(t, path, inode_is_dir(i));

	if (r < 0)
		return r;
	if (S_ISSOCK(i->mode)) {
		log_warning(t->o->log, "%s: a socket, which tar cannot hold: left out", path);
		return 0;
	}
	r = describe(t, i);
	if (r == 0 && first)
		archive_entry_copy_hardlink(t->entry, first);
	else if (r == 0 && S_ISLNK(i->mode))
		r = set_target(t, path, i);
	archive_entry_set_size(t->entry, has_content ? (la_int64_t)i->size : 0);
	if (r == 0 && has_content)
		r = set_sparse(t, path, i);
	if (r == 0)
		r = put_header(t, path);
	if (r < 0 || !has_content)
		return r;
	t->result.bytes += i->size;
	r = put_content(t, path, i);
	if (r == 0 && archive_write_finish_entry(t->a) < ARCHIVE_WARN)
		return failed(t, path);
	return r;
}

int export_tar_mark(struct export_tar *t, const char *path)
{
	int r = set_path(t, path, false);

	if (r < 0)
		return r;
	archive_entry_set_mode(t->entry, S_IFREG | 0600);
	archive_entry_set_mtime(t->entry, 0, 0);
	archive_entry_set_size(t->entry, 0);
	return put_header(t, path);
}

int export_tar_end(struct export_tar *t, struct export_result *result)
{
	int r = import_meter_tell(t->meter);

	if (r < 0)
		return r;
	if (archive_write_close(t->a) != ARCHIVE_OK)
		return failed(t, NULL);
	*result = t->result;
	return 0;
}
