/*
 * fuzz_journal: any bytes as the journal of a session's layer.
 * Invariant: what replays without damage is a session like any other.
 * Called by a fuzzer or by its replay.
 */
#include "fuzz.h"

#include <sys/stat.h>

#include "checksum.h"
#include "format.h"
#include "fuzz_world.h"
#include "unit.h"
#include "unit_op.h"

static const char journal[] = "session/layers/1/journal";

static void mend_header(unsigned char *bytes)
{
	struct disk_journal_header header;

	memcpy(&header, bytes, sizeof(header));
	memcpy(header.magic, FORMAT_JOURNAL_MAGIC, sizeof(header.magic));
	header.version = le32(FORMAT_JOURNAL_VERSION);
	header.layer = le64(1);
	header.checksum = le64(checksum64(&header, offsetof(struct disk_journal_header, checksum), 0));
	memcpy(bytes, &header, sizeof(header));
}

static uint32_t frame_check(uint32_t len, uint64_t serial)
{
	struct le64 words[2] = {le64(len), le64(serial)};

	return (uint32_t)checksum64(words, sizeof(words), 0);
}

/* Frames are as long as they say, as far as there are bytes, and their serial numbers grow. */
size_t fuzz_mend(unsigned char *bytes, size_t len)
{
	size_t at = sizeof(struct disk_journal_header);
	uint64_t last = 0;

	if (len < at)
		return len;
	mend_header(bytes);
	while (len - at >= sizeof(struct disk_frame)) {
		size_t left = len - at - sizeof(struct disk_frame);
		struct disk_frame frame;
		uint32_t has;

		memcpy(&frame, bytes + at, sizeof(frame));
		has = from_le32(frame.len) < left ? from_le32(frame.len) : (uint32_t)left;
		if (from_le64(frame.serial) <= last || from_le64(frame.serial) >= FORMAT_NUMBERS_END)
			frame.serial = le64(last + 1);
		last = from_le64(frame.serial);
		frame.len = le32(has);
		frame.check = le32(frame_check(has, last));
		frame.checksum = le64(checksum64(bytes + at + sizeof(frame), has, last));
		memcpy(bytes + at, &frame, sizeof(frame));
		at += sizeof(frame) + has;
	}
	return len;
}

/* A session in which each kind of operation was done. */
static void do_operations(struct world *w)
{
	static const struct op ops[] = {
		{OP_MKDIR, "made", NULL, 0, 0, 0},           {OP_MKFILE, "made/a", NULL, 0, 0, 0},
		{OP_WRITE, "made/a", NULL, 7, 0, 300},       {OP_LINK, "made/a", "b", 0, 0, 0},
		{OP_WRITE, "file", NULL, 3, 100, 50},        {OP_MKDIR, "made/sub", NULL, 0, 0, 0},
		{OP_RENAME, "dir", "made/sub/dir", 0, 0, 0}, {OP_SYMLINK, "made/link", "b", 0, 0, 0},
		{OP_CHMOD, "b", NULL, 0600, 0, 0},           {OP_SETXATTR, "b", NULL, 1, 0, 20},
		{OP_UNLINK, "hard", NULL, 0, 0, 0},          {OP_RMDIR, "empty", NULL, 0, 0, 0},
		{OP_TRUNCATE, "b", NULL, 0, 100, 0},         {OP_MKFIFO, "fifo", NULL, 0, 0, 0},
		{OP_UTIMES, "b", NULL, 1000, 5, 0},          {OP_RENAME, "b", "made/a", 2, 0, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		op_tree(w, &ops[i]);
}

/* Files in part: cut, lengthened, whole again in the end. */
static void do_parts(struct world *w)
{
	static const struct op ops[] = {
		{OP_WRITE, "dir/child", NULL, 5, 4500, 100},     {OP_WRITE, "dir/sub/deep", NULL, 6, 0, 10},
		{OP_TRUNCATE, "dir/sub/deep", NULL, 0, 4200, 0}, {OP_TRUNCATE, "dir/sub/deep", NULL, 0, 9000, 0},
		{OP_WRITE, "dir/sub/deep", NULL, 7, 6000, 20},   {OP_WRITE, "dir/child", NULL, 8, 0, 4096},
	};

	for (size_t i = 0; i < ARRAY_LEN(ops); i++)
		op_tree(w, &ops[i]);
}

static void set_entry(struct world *w, uint64_t parent, const char *name, uint64_t ino)
{
	struct session *s = &w->store->session;

	record_start(&s->record);
	record_entry(&s->record, parent, name, strlen(name), ino);
	assert_int_equal(session_apply(s), 0);
}

/* A directory that lies in itself, with a path from the root or without. */
static void do_circle(struct world *w, bool has_path)
{
	uint64_t dir = world_ino(w, "dir");

	set_entry(w, world_ino(w, "dir/sub"), "loop", dir);
	if (!has_path)
		set_entry(w, 1, "dir", 0);
}

size_t fuzz_seed(unsigned int nr, unsigned char bytes[FUZZ_INPUT_MAX])
{
	struct world *w;
	size_t len;

	if (nr > 4)
		return 0;
	w = fuzz_begin();
	fuzz_make_session(w, 1);
	world_open(w);
	if (nr == 1)
		do_operations(w);
	if (nr == 2)
		do_parts(w);
	if (nr >= 3)
		do_circle(w, nr == 3);
	world_close(w);
	len = fuzz_take(w, journal, bytes);
	fuzz_end(w);
	return len;
}

void fuzz_one(const unsigned char *bytes, size_t len)
{
	struct world *w = fuzz_begin();

	fuzz_make_session(w, 1);
	place_put(w->place.fd, journal, bytes, len);
	fuzz_session(w);
	fuzz_end(w);
}
