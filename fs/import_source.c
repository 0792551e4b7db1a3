/*
 * import_source: owns the archive's descriptor and a buffer.
 * Invariant: every byte comes out once and in order, peeked at or not, unless the reader seeks.
 * Called by import_gzip, import_stream and import_archive.
 */
#include "import_source.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"

enum {
	BUFFER = 256 << 10,
	PATIENCE = 200, /* ms for a pipe to bring something before the caller is asked whether to wait on */
};

struct import_source {
	int fd;
	bool seekable;
	struct import_meter *meter;
	size_t start, end; /* bytes read from fd that nobody has taken yet */
	unsigned char buffer[BUFFER];
};

int import_source_new(int fd, struct import_meter *meter, struct import_source **out)
{
	struct import_source *s;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	s = malloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	s->fd = fd;
	s->meter = meter;
	s->start = s->end = 0;
	s->seekable = S_ISREG(st.st_mode) && lseek(fd, 0, SEEK_CUR) == 0;
	*out = s;
	return 0;
}

void import_source_free(struct import_source *s)
{
	if (!s)
		return;
	close_fd(s->fd);
	free(s);
}

/* Waits for a pipe, which may take for ever, and asks the caller meanwhile: 0 or -ECANCELED. */
static int wait_for(const struct import_source *s)
{
	struct pollfd poll_fd = {.fd = s->fd, .events = POLLIN};
	int r = 0;

	/* An error of poll(2) but EINTR is for read(2) to tell. */
	while (r == 0 && !s->seekable) {
		int n = poll(&poll_fd, 1, PATIENCE);

		if (n > 0 || (n < 0 && errno != EINTR))
			break;
		r = import_meter_tell(s->meter);
	}
	return r;
}

/* Adds what the descriptor has to the buffer: how many bytes, 0 at the end. */
static ssize_t fill(struct import_source *s)
{
	ssize_t n;
	int r;

	do {
		r = wait_for(s);
		n = r == 0 ? read(s->fd, s->buffer + s->end, BUFFER - s->end) : 0;
	} while (n < 0 && errno == EINTR);
	if (r < 0)
		return r;
	if (n < 0)
		return -errno;
	s->end += (size_t)n;
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
