/*
 * journal: owns one layer's journal file.
 * Invariant: the bytes before j->end are whole frames with growing serial numbers; nothing acknowledged lies
 * behind it. Blocks behind the end of the file are the reserve: only a frame that frees goes into the last of it.
 * Called by layer, its tables and those who work on a layer: session, tree_sync, snapshot and merge.
 */
#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "checksum.h"
#include "cleanup.h"
#include "format.h"
#include "io.h"
#include "record.h"

static const char file_name[] = "journal";

/*
 * Bytes behind the end. A frame that frees nothing leaves RESERVE of them, any frame LAST: it is for what closes a layer
 * whose user freed nothing in all of RESERVE. AHEAD more are taken at a time.
 */
enum { RESERVE = 128 << 10, LAST = 16 << 10, AHEAD = 128 << 10, SECTOR = 512 };

enum { FINGERPRINT_BYTES = 64 << 10 };

_Static_assert(sizeof(struct disk_journal_header) == JOURNAL_HEADER_BYTES, "the header's size is part of the format");

struct journal {
	int fd;
	bool writable;
	unsigned int version;
	bool broken; /* a failed append could not be taken back */
	bool gaps;   /* bytes that were not synced may be missing anywhere */
	uint64_t end;
	uint64_t held;   /* the file has blocks up to here; UINT64_MAX where the host cannot keep any behind the end */
	uint64_t serial; /* of the last frame */
	char label[];
};

int journal_create(int dirfd, uint64_t layer)
{
	struct disk_journal_header header = {.version = le32(FORMAT_JOURNAL_VERSION), .layer = le64(layer)};
	cleanup_fd int fd = openat(dirfd, file_name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	memcpy(header.magic, FORMAT_JOURNAL_MAGIC, sizeof(header.magic));
	header.checksum = le64(checksum64(&header, offsetof(struct disk_journal_header, checksum), 0));
	return io_write_all(fd, &header, sizeof(header), 0);
}

/* The version, or what is wrong. */
static int check_header(int fd, uint64_t layer, const char *label, const struct log *log)
{
	struct disk_journal_header header;
	int r = io_read_all(fd, &header, sizeof(header), 0);

	if (r < 0 && r != -EUCLEAN)
		return log_errno(log, r, "%s", label);
	if (r < 0 || memcmp(header.magic, FORMAT_JOURNAL_MAGIC, sizeof(header.magic)) != 0)
		return log_error(log, -EUCLEAN, "%s: damaged at byte 0: this is no journal", label);
	if (checksum64(&header, offsetof(struct disk_journal_header, checksum), 0) != from_le64(header.checksum) ||
	    from_le32(header.version) < FORMAT_JOURNAL_OLDEST)
		return log_error(log, -EUCLEAN, "%s: damaged at byte 0: the checksum of its header differs", label);
	if (from_le32(header.version) > FORMAT_JOURNAL_VERSION)
		return log_error(log, -EPROTONOSUPPORT, "%s: made by a newer umlfs (version %u): update umlfs", label,
		                 from_le32(header.version));
	if (from_le64(header.layer) != layer)
		return log_error(log, -EUCLEAN, "%s: damaged: it is the journal of layer %llu", label,
		                 (unsigned long long)from_le64(header.layer));
	return (int)from_le32(header.version);
}

int journal_open(int dirfd, uint64_t layer, bool writable, const char *label, const struct log *log,
                 struct journal **out)
{
	cleanup_fd int fd = io_open_regular(dirfd, file_name, writable ? O_RDWR : O_RDONLY);
	struct journal *j;
	int r;

	if (fd == -EUCLEAN || fd == -ELOOP)
		return log_error(log, -EUCLEAN, "%s: damaged: this is no regular file", label);
	if (fd < 0)
		return log_errno(log, fd, "%s", label);
	r = check_header(fd, layer, label, log);
	if (r < 0)
		return r;
	j = calloc(1, sizeof(*j) + strlen(label) + 1);
	if (!j)
		return -ENOMEM;
	j->fd = take_fd(&fd);
	j->writable = writable;
	j->version = (unsigned int)r;
	j->end = sizeof(struct disk_journal_header);
	strcpy(j->label, label);
	*out = j;
	return 0;
}

void journal_free(struct journal *j)
{
	if (!j)
		return;
	close_fd(j->fd);
	free(j);
}

static uint32_t frame_check(uint32_t len, uint64_t serial)
{
	struct le64 words[2] = {le64(len), le64(serial)};

	return (uint32_t)checksum64(words, sizeof(words), 0);
}

enum frame_state { FRAME_WHOLE, FRAME_TORN, FRAME_DAMAGED };

/* Judges the frame that starts at p with left bytes up to the end of the file. */
static enum frame_state judge(const unsigned char *p, size_t left, uint64_t last_serial, struct disk_frame *frame)
{
	uint32_t len;

	if (left < sizeof(*frame) || io_all_zero(p, left))
		return FRAME_TORN;
	memcpy(frame, p, sizeof(*frame));
	len = from_le32(frame->len);
	if (from_le32(frame->check) != frame_check(len, from_le64(frame->serial)) || len > RECORD_MAX)
		return FRAME_DAMAGED;
	if (len > left - sizeof(*frame))
		return FRAME_TORN;
	if (checksum64(p + sizeof(*frame), len, from_le64(frame->serial)) != from_le64(frame->checksum))
		return len == left - sizeof(*frame) ? FRAME_TORN : FRAME_DAMAGED;
	return from_le64(frame->serial) > last_serial && from_le64(frame->serial) < FORMAT_NUMBERS_END ? FRAME_WHOLE
	                                                                                               : FRAME_DAMAGED;
}

static int report_damage(const struct journal *j, uint64_t at, const struct log *log)
{
	return log_error(
		log, -EUCLEAN,
		"%s: damaged at byte %llu: `umlfs reset` to an earlier snapshot, or to @base, drops this layer",
		j->label, (unsigned long long)at);
}

static int cut_tail(struct journal *j, uint64_t end, uint64_t size, const struct log *log)
{
	if (end == size)
		return 0;
	log_warning(log, "%s: dropped %llu bytes of an operation that was cut short", j->label,
	            (unsigned long long)(size - end));
	if (j->writable && ftruncate(j->fd, (off_t)end) < 0)
		return log_errno(log, -errno, "%s", j->label);
	return 0;
}

static int replay_map(struct journal *j, const unsigned char *map, uint64_t size, bool sealed, const struct log *log,
                      journal_visit *visit, void *arg)
{
	while (j->end < size) {
		const unsigned char *p = map + j->end;
		struct disk_frame frame;
		enum frame_state state = judge(p, (size_t)(size - j->end), j->serial, &frame);
		int r;

		if (!sealed && (state == FRAME_TORN || (state == FRAME_DAMAGED && j->gaps)))
			return cut_tail(j, j->end, size, log);
		if (state != FRAME_WHOLE)
			return report_damage(j, j->end, log);
		r = visit(arg, from_le64(frame.serial), p + sizeof(frame), from_le32(frame.len));
		if (r == -EUCLEAN)
			return report_damage(j, j->end, log);
		if (r < 0)
			return log_errno(log, r, "%s", j->label);
		j->serial = from_le64(frame.serial);
		j->end += sizeof(frame) + from_le32(frame.len);
	}
	return 0;
}

void journal_expect_gaps(struct journal *j)
{
	j->gaps = true;
}

int journal_replay(struct journal *j, uint64_t sealed_len, const struct log *log, journal_visit *visit, void *arg)
{
	unsigned char *map;
	struct stat st;
	uint64_t size;
	int r;

	if (fstat(j->fd, &st) < 0)
		return log_errno(log, -errno, "%s", j->label);
	size = (uint64_t)st.st_size;
	if (sealed_len && size < sealed_len)
		return log_error(log, -EUCLEAN,
		                 "%s: damaged: %llu bytes where %llu were sealed: `umlfs reset` to an earlier snapshot",
		                 j->label, (unsigned long long)size, (unsigned long long)sealed_len);
	if (sealed_len)
		size = sealed_len;
	map = mmap(NULL, size, PROT_READ, MAP_SHARED, j->fd, 0);
	if (map == MAP_FAILED)
		return log_errno(log, -errno, "%s", j->label);
	r = replay_map(j, map, size, sealed_len != 0, log, visit, arg);
	munmap(map, size);
	return r;
}

/* A journal has no holes, so its blocks tell how far they go. */
static void look_held(struct journal *j)
{
	struct stat st;

	if (j->held != UINT64_MAX)
		j->held = fstat(j->fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * SECTOR;
}

static int hold(struct journal *j, uint64_t to)
{
	uint64_t from = j->held > j->end ? j->held : j->end;
	int r;

	do {
		r = fallocate(j->fd, FALLOC_FL_KEEP_SIZE, (off_t)from, (off_t)(to - from));
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		j->held = to;
	else if (errno == EOPNOTSUPP || errno == ENOSYS)
		j->held = UINT64_MAX;
	else
		return -errno;
	return 0;
}

/* 0 when a frame that ends at byte `end` leaves enough behind it. */
static int keep_reserve(struct journal *j, uint64_t end, bool frees, uint64_t owed)
{
	uint64_t least = end + (frees ? LAST : RESERVE) + owed;
	int r;

	if (least <= j->held)
		return 0;
	look_held(j);
	if (least <= j->held)
		return 0;
	r = hold(j, end + RESERVE + AHEAD + owed);
	if (r == -ENOSPC || r == -EDQUOT)
		r = hold(j, least);
	return r;
}

/* Takes back what was written behind the end, and with it, on most file systems, the reserve. */
static int cut_back(struct journal *j)
{
	int r = ftruncate(j->fd, (off_t)j->end) < 0 ? -errno : 0;

	look_held(j);
	return r;
}

void journal_hold(struct journal *j, uint64_t owed)
{
	uint64_t room = RESERVE + AHEAD + owed;

	look_held(j);
	while (j->held < j->end + room && room >= LAST && hold(j, j->end + room) < 0)
		room /= 2;
}

void journal_release(struct journal *j)
{
	look_held(j);
	if (j->held > j->end && j->held != UINT64_MAX)
		cut_back(j);
}

int journal_append(struct journal *j, uint64_t serial, const unsigned char *payload, size_t len, bool frees,
                   uint64_t owed)
{
	struct disk_frame frame = {
		.len = le32((uint32_t)len),
		.check = le32(frame_check((uint32_t)len, serial)),
		.serial = le64(serial),
		.checksum = le64(checksum64(payload, len, serial)),
	};
	struct iovec parts[2] = {
		{.iov_base = &frame, .iov_len = sizeof(frame)},
		{.iov_base = (void *)(uintptr_t)payload, .iov_len = len},
	};
	ssize_t n;
	int r = j->broken ? cut_back(j) : 0;

	if (r < 0)
		return r;
	j->broken = false;
	r = keep_reserve(j, j->end + sizeof(frame) + len, frees, owed);
	if (r < 0)
		return r;
	do {
		n = pwritev(j->fd, parts, 2, (off_t)j->end);
	} while (n < 0 && errno == EINTR);
	if (n != (ssize_t)(sizeof(frame) + len)) {
		r = n < 0 ? -errno : -ENOSPC;
		if (n > 0 && cut_back(j) < 0)
			j->broken = true;
		return r;
	}
	j->end += (uint64_t)n;
	j->serial = serial;
	return 0;
}

int journal_join(int dirfd, int from_dirfd, uint64_t len)
{
	cleanup_fd int to = openat(dirfd, file_name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
	cleanup_fd int from = openat(from_dirfd, file_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (to < 0 || from < 0 || fstat(to, &st) < 0)
		return -errno;
	return io_copy_range(from, JOURNAL_HEADER_BYTES, to, (uint64_t)st.st_size, len - JOURNAL_HEADER_BYTES);
}

int journal_fingerprint(int dirfd, uint64_t len, uint64_t *out)
{
	cleanup_fd int fd = io_open_regular(dirfd, file_name, O_RDONLY);
	size_t tail = len < FINGERPRINT_BYTES ? (size_t)len : FINGERPRINT_BYTES;
	cleanup_free unsigned char *bytes = malloc(FINGERPRINT_BYTES);
	int r = fd < 0 ? fd : 0;

	if (!bytes)
		return -ENOMEM;
	if (r == 0)
		r = io_read_all(fd, bytes, tail, len - tail);
	if (r == 0)
		*out = checksum64(bytes, tail, len);
	return r;
}

int journal_sync(struct journal *j)
{
	return fdatasync(j->fd) < 0 ? -errno : 0;
}

uint64_t journal_length(const struct journal *j)
{
	struct stat st;

	return fstat(j->fd, &st) < 0 ? 0 : (uint64_t)st.st_size;
}

int journal_fd(const struct journal *j)
{
	return j->fd;
}

unsigned int journal_version(const struct journal *j)
{
	return j->version;
}

uint64_t journal_size(const struct journal *j)
{
	return j->end;
}
