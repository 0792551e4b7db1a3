/*
 * import_source: owns the archive's descriptor and a buffer.
 * Invariant: every byte comes out once and in order, peeked at or not, unless the reader looks or seeks.
 * Called by import, import_gzip, import_stream, import_archive, import_blobs and import_image.
 */
#include "import_source.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

enum {
	BUFFER = 256 << 10,
	KEPT_MAX = 64 << 20,
	PATIENCE = 200, /* ms for a pipe to bring something before the caller is asked whether to wait on */
};

struct import_source {
	int fd;
	bool seekable, looking;
	bool is_part;      /* read from `at` up to `stop`, wherever the descriptor stands */
	uint64_t at, stop; /* of a part */
	struct import_meter *meter;
	unsigned char *kept;                /* what a look read from a descriptor that cannot go back */
	size_t kept_len, kept_cap, kept_at; /* up to kept_at it was given again */
	size_t start, end;                  /* bytes read from fd that nobody has taken yet */
	unsigned char buffer[BUFFER];
};

int import_source_new(int fd, struct import_meter *meter, struct import_source **out)
{
	struct import_source *s;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->meter = meter;
	s->seekable = S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0;
	*out = s;
	return 0;
}

int import_source_new_part(int fd, uint64_t at, uint64_t len, struct import_meter *meter, struct import_source **out)
{
	struct import_source *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->meter = meter;
	s->is_part = true;
	s->at = at;
	s->stop = at + len;
	*out = s;
	return 0;
}

void import_source_free(struct import_source *s)
{
	if (!s)
		return;
	close_fd(s->fd);
	free(s->kept);
	free(s);
}

void import_source_look(struct import_source *s)
{
	s->looking = true;
}

int import_source_rewind(struct import_source *s)
{
	if (s->seekable && lseek(s->fd, 0, SEEK_SET) < 0)
		return -errno;
	s->looking = false;
	s->start = s->end = 0;
	return 0;
}

/* Waits for a pipe, which may take for ever, and asks the caller meanwhile: 0 or -ECANCELED. */
static int wait_for(const struct import_source *s)
{
	struct pollfd poll_fd = {.fd = s->fd, .events = POLLIN};
	int r = 0;

	/* An error of poll(2) but EINTR is for read(2) to tell. */
	while (r == 0 && !s->seekable && !s->is_part) {
		int n = poll(&poll_fd, 1, PATIENCE);

		if (n > 0 || (n < 0 && errno != EINTR))
			break;
		r = import_meter_tell(s->meter);
	}
	return r;
}

/* Keeps bytes for the time behind the look. */
static int keep(struct import_source *s, const unsigned char *bytes, size_t len)
{
	size_t cap = s->kept_cap ? s->kept_cap : BUFFER;
	unsigned char *grown;

	if (len == 0)
		return 0;
	if (len > KEPT_MAX - s->kept_len)
		return -E2BIG;
	while (cap < s->kept_len + len)
		cap *= 2;
	if (cap > s->kept_cap) {
		grown = realloc(s->kept, cap);
		if (!grown)
			return -ENOMEM;
		s->kept = grown;
		s->kept_cap = cap;
	}
	memcpy(s->kept + s->kept_len, bytes, len);
	s->kept_len += len;
	return 0;
}

/* The next of the bytes that were kept, which are let go of behind the last one. */
static ssize_t give_again(struct import_source *s, unsigned char *to, size_t len)
{
	size_t left = s->kept_len - s->kept_at;
	size_t n = left < len ? left : len;

	memcpy(to, s->kept + s->kept_at, n);
	s->kept_at += n;
	if (s->kept_at == s->kept_len) {
		free(s->kept);
		s->kept = NULL;
		s->kept_len = s->kept_cap = s->kept_at = 0;
	}
	return (ssize_t)n;
}

static ssize_t read_part(struct import_source *s, unsigned char *to, size_t len)
{
	uint64_t left = s->stop - s->at;
	ssize_t n = pread(s->fd, to, left < len ? (size_t)left : len, (off_t)s->at);

	if (n > 0)
		s->at += (uint64_t)n;
	return n;
}

static ssize_t read_fd(struct import_source *s, unsigned char *to, size_t len)
{
	ssize_t n;
	int r;

	do {
		r = wait_for(s);
		n = r < 0 ? 0 : s->is_part ? read_part(s, to, len) : read(s->fd, to, len);
	} while (n < 0 && errno == EINTR);
	if (r == 0 && n < 0)
		r = -errno;
	if (r == 0 && s->looking && !s->seekable)
		r = keep(s, to, (size_t)n);
	return r < 0 ? r : n;
}

/* Adds the next bytes to the buffer: how many, 0 at the end. */
static ssize_t fill(struct import_source *s)
{
	unsigned char *to = s->buffer + s->end;
	size_t len = BUFFER - s->end;
	ssize_t n = !s->looking && s->kept ? give_again(s, to, len) : read_fd(s, to, len);
	int r;

	if (n < 0)
		return n;
	s->end += (size_t)n;
	if (!s->looking)
		s->meter->now.bytes += (uint64_t)n;
	r = import_meter_work(s->meter, (uint64_t)n);
	return r < 0 ? r : n;
}

ssize_t import_source_peek(struct import_source *s, size_t len, const unsigned char **out)
{
	while (s->end - s->start < len) {
		ssize_t n = fill(s);

		if (n < 0)
			return n;
		if (n == 0)
			break;
	}
	*out = s->buffer + s->start;
	return (ssize_t)(s->end - s->start < len ? s->end - s->start : len);
}

ssize_t import_source_read(struct import_source *s, const void **out)
{
	ssize_t n;

	if (s->start == s->end) {
		s->start = s->end = 0;
		n = fill(s);
		if (n < 0)
			return n;
	}
	*out = s->buffer + s->start;
	n = (ssize_t)(s->end - s->start);
	s->start = s->end;
	return n;
}

bool import_source_seekable(const struct import_source *s)
{
	return s->seekable;
}

int64_t import_source_seek(struct import_source *s, int64_t offset, int whence)
{
	off_t at;

	/* What is buffered and not taken lies behind the position that the reader knows of. */
	if (whence == SEEK_CUR)
		offset -= (int64_t)(s->end - s->start);
	at = lseek(s->fd, offset, whence);
	if (at < 0)
		return -errno;
	s->start = s->end = 0;
	return at;
}
