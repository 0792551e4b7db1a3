/*
 * verify: reads a base's files and compares them with the checksums that import took.
 * Invariant: changes nothing, and opens nothing outside the base.
 * Called by the program.
 */
#include "umlfs/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "checksum.h"
#include "cleanup.h"
#include "findings.h"
#include "format.h"
#include "index.h"
#include "io.h"

enum { CHUNK = 1 << 20 };

struct verify {
	const struct verify_options *o;
	int treefd;
	struct index *ix;
	struct checksum_content *sum;
	unsigned char *chunk;
	struct progress now;
	struct verify_result result;
};

static int found(struct verify *v, const char *path, const char *kind, const char *what)
{
	cleanup_free char *where = findings_where("%s/%s", v->o->base, path);
	struct finding finding = {.kind = kind, .where = where, .what = what};

	if (!where)
		return log_errno(v->o->log, -ENOMEM, "%s", v->o->base);
	v->result.n_found++;
	v->o->found(v->o->arg, &finding);
	return 0;
}

static int tell(struct verify *v)
{
	return v->o->progress && v->o->progress(v->o->arg, &v->now) != 0 ? -ECANCELED : 0;
}

/* Adds the data from offset to end to the checksum: 0, -ECANCELED, 1 with *error_out when the host cannot read. */
static int add_data(struct verify *v, int fd, uint64_t offset, uint64_t end, int *error_out)
{
	while (offset < end) {
		ssize_t n = pread(fd, v->chunk, end - offset < CHUNK ? end - offset : CHUNK, (off_t)offset);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			*error_out = n < 0 ? errno : EIO; /* it was longer a moment ago */
			return 1;
		}
		checksum_content_add(v->sum, v->chunk, (size_t)n, offset);
		offset += (uint64_t)n;
		v->now.bytes += (uint64_t)n;
		r = tell(v);
		if (r < 0)
			return r;
	}
	return 0;
}

static int compare_bytes(struct verify *v, int fd, const char *path, const struct index_content *want)
{
	uint64_t begun = v->now.bytes;
	uint64_t at = 0, data, end;
	int error = 0;
	int r = 0;

	checksum_content_reset(v->sum);
	while (r == 0 && io_next_data(fd, at, want->size, &data, &end)) {
		r = add_data(v, fd, data, end, &error);
		at = end;
	}
	v->now.bytes = begun + want->size; /* holes are done too */
	if (r < 0)
		return r;
	if (r > 0)
		return found(v, path, "unreadable", strerror(error));
	if (checksum_content_end(v->sum, want->size) != want->checksum)
		return found(v, path, "content", "its bytes are not those that were imported: import the base again");
	return 0;
}

static int compare_open(struct verify *v, int fd, const char *path, const struct index_content *want)
{
	char what[80];
	struct stat st;

	if (fstat(fd, &st) < 0)
		return found(v, path, "unreadable", strerror(errno));
	if (!S_ISREG(st.st_mode))
		return found(v, path, "type", "is no regular file any more");
	if ((uint64_t)st.st_size == want->size)
		return compare_bytes(v, fd, path, want);
	snprintf(what, sizeof(what), "has %lld bytes, %llu were imported", (long long)st.st_size,
	         (unsigned long long)want->size);
	return found(v, path, "size", what);
}

static int verify_file(struct verify *v, uint64_t ino)
{
	cleanup_free char *path = NULL;
	struct index_content want;
	cleanup_fd int fd = -1;
	int r = index_content(v->ix, ino, &want);

	if (r == 0)
		r = index_path(v->ix, ino, &path);
	if (r < 0)
		return log_errno(v->o->log, r, "%s/" FORMAT_OWN_DIR "/index", v->o->base);
	fd = io_open_beneath(v->treefd, path, O_RDONLY | O_NONBLOCK, 0);
	if (fd == -ENOENT || fd == -ENOTDIR)
		r = found(v, path, "missing", "the index has it, the base has not");
	else if (fd == -ELOOP || fd == -ENXIO)
		r = found(v, path, "type", "is no regular file any more");
	else if (fd < 0)
		r = found(v, path, "unreadable", strerror(-fd));
	else
		r = compare_open(v, fd, path, &want);
	v->result.files++;
	v->result.bytes += want.size;
	v->now.entries++;
	return r < 0 ? r : tell(v);
}

/* Visits every regular file. */
static int each_file(struct verify *v, int (*visit)(struct verify *v, const struct inode *inode))
{
	int r = 0;

	for (uint64_t ino = 1; r == 0 && ino <= index_n_inodes(v->ix); ino++) {
		struct inode inode;

		r = index_inode(v->ix, ino, &inode);
		if (r < 0)
			return log_errno(v->o->log, r, "%s/" FORMAT_OWN_DIR "/index", v->o->base);
		if (S_ISREG(inode.mode))
			r = visit(v, &inode);
	}
	return r;
}

static int add_up(struct verify *v, const struct inode *inode)
{
	v->now.bytes_total += inode->size;
	return 0;
}

static int look(struct verify *v, const struct inode *inode)
{
	return verify_file(v, inode->ino);
}

static int open_base(struct verify *v)
{
	const char *base = v->o->base;
	char label[PATH_MAX];
	int r;

	v->treefd = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (v->treefd < 0 && errno == ENOENT)
		return log_error(v->o->log, -ENOENT, "%s: no such base: make one with `umlfs import ARCHIVE %s`", base,
		                 base);
	if (v->treefd < 0 && errno == ENOTDIR)
		return log_error(v->o->log, -ENOTDIR, "%s: is no directory: give that of a base", base);
	if (v->treefd < 0)
		return log_errno(v->o->log, -errno, "%s", base);
	snprintf(label, sizeof(label), "%s/" FORMAT_OWN_DIR "/index", base);
	r = index_open(v->treefd, FORMAT_OWN_DIR "/index", label, v->o->log, &v->ix);
	if (r == -ENOENT && faccessat(v->treefd, FORMAT_OWN_DIR, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return log_error(v->o->log, -EUCLEAN, "%s: missing: import the base again", label);
	if (r == -ENOENT && faccessat(v->treefd, "manifest", F_OK, AT_SYMLINK_NOFOLLOW) == 0 &&
	    faccessat(v->treefd, "layers", F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return log_error(v->o->log, -EINVAL,
		                 "%s: is a session: `umlfs check %s` checks it; `umlfs verify` is for bases", base,
		                 base);
	if (r == -ENOENT)
		return log_error(
			v->o->log, -EINVAL,
			"%s: is no imported base: only an import takes checksums; import it with `umlfs import`", base);
	return r;
}

int verify_run(const struct verify_options *options, struct verify_result *result)
{
	struct verify v = {.o = options, .treefd = -1};
	int r = open_base(&v);

	if (r == 0) {
		v.chunk = malloc(CHUNK);
		r = v.chunk ? checksum_content_new(&v.sum) : -ENOMEM;
		if (r < 0)
			log_errno(options->log, r, "%s", options->base);
	}
	if (r == 0)
		r = each_file(&v, add_up);
	if (r == 0)
		r = each_file(&v, look);
	checksum_content_free(v.sum);
	free(v.chunk);
	index_free(v.ix);
	close_fd(v.treefd);
	if (r == 0)
		*result = v.result;
	return r;
}
