/*
 * format: every byte that umlfs keeps on disk. All numbers are little-endian and unaligned.
 *
 * INDEX (base/.umlfs/index, session/base.index): what a base holds, read-only, mapped.
 *
 *     disk_index_header | inodes | entries | names | targets | xattrs
 *
 *   inodes    n_inodes rows; row r describes inode r + 1; inode 1 is the root directory
 *   entries   n_entries rows, sorted by (parent, bytes of the name); a directory's row says where its run starts
 *   names     the entries' names, one after another, no terminator
 *   targets   the symbolic links' targets, no terminator
 *   xattrs    packed sets (see xattr_set.h), one for each inode that has any
 *
 *   The sections follow the header in this order without gaps. Each has an XXH3-64 in the header, and the header's own
 *   bytes before its checksum have another. The index's identity is the XXH3-128 of the header. Numbering
 *   is breadth first with sorted names, so that the same tree always gives the same bytes.
 *
 * JOURNAL (session/layers/N/journal): what one layer changes, append-only.
 *
 *     disk_journal_header | frame ...
 *     frame: disk_frame | payload
 *     payload: effect ...        (see record.h)
 *
 *   One operation is one frame, so that it is there whole or not at all. Serial numbers grow from frame to frame, through all
 *   layers of a session and across resets. A frame that the end of the file cuts short, or whose tail reads as zeros up to
 *   the end, was never acknowledged as synced and is dropped; anything else that does not match its checksum is damage.
 *
 *   Version 2 knows of files that are here in part: effects 5, 6 and 7 of record.h. A journal keeps the version that it was
 *   made with; one of version 1 has none of these effects.
 *
 * CONTENT (session/layers/N/content/INO): the bytes of a regular file, named by its inode number in decimal. Of a file that
 * is here in part, it has those parts that the journal tells, in their places, and everything from a length on that the
 * journal tells too; what lies between is a hole, and read from the layers below.
 *
 * TABLE (session/layers/N/table): what replaying the journal of a sealed layer gives, to be mapped instead. It may be missing,
 * and one that does not match its checksum, its journal or the layers below counts as missing: rows name the layer that has a
 * file's content, and layers that are joined get another number.
 *
 *     disk_table_header | inodes | dirs | entries | bytes
 *
 *   inodes    n_inodes rows, sorted by number
 *   dirs      n_dirs rows, sorted by number: the directories in which the layer has names, or had
 *   entries   n_entries rows: those of the first directory by growing cookie, then those of the next
 *   bytes     what rows point to: names; of an inode its target, its set of xattrs (see xattr_set.h), its disk_table_part and
 *             the ranges of that, each a pair of le64, those that are here and then those that may not be on disk
 *
 * MANIFEST (session/manifest): text, see manifest.c.
 *
 * Whatever a version adds, the header of index and journal keeps its length and its checksum, and the manifest its last
 * line: so a newer version is told from a flipped bit.
 */
#pragma once

#include <endian.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* Numbers on disk: structures, so that they do not compile where an integer is meant. */
struct le16 {
	uint8_t byte[2];
};

struct le32 {
	uint8_t byte[4];
};

struct le64 {
	uint8_t byte[8];
};

static inline struct le16 le16(uint16_t n)
{
	struct le16 out;

	n = htole16(n);
	memcpy(&out, &n, sizeof(out));
	return out;
}

static inline struct le32 le32(uint32_t n)
{
	struct le32 out;

	n = htole32(n);
	memcpy(&out, &n, sizeof(out));
	return out;
}

static inline struct le64 le64(uint64_t n)
{
	struct le64 out;

	n = htole64(n);
	memcpy(&out, &n, sizeof(out));
	return out;
}

static inline uint16_t from_le16(struct le16 n)
{
	uint16_t out;

	memcpy(&out, &n, sizeof(out));
	return le16toh(out);
}

static inline uint32_t from_le32(struct le32 n)
{
	uint32_t out;

	memcpy(&out, &n, sizeof(out));
	return le32toh(out);
}

static inline uint64_t from_le64(struct le64 n)
{
	uint64_t out;

	memcpy(&out, &n, sizeof(out));
	return le64toh(out);
}

#define FORMAT_INDEX_MAGIC   "umlfsidx"
#define FORMAT_JOURNAL_MAGIC "umlfsjnl"
#define FORMAT_TABLE_MAGIC   "umlfstbl"

enum {
	FORMAT_INDEX_VERSION = 1,
	FORMAT_JOURNAL_VERSION = 2,
	FORMAT_JOURNAL_OLDEST = 1, /* that is still read */
	FORMAT_JOURNAL_PARTS = 2,  /* the first that has files in part */
	FORMAT_MANIFEST_VERSION = 1,
	FORMAT_TABLE_VERSION = 2,
};

enum {
	FORMAT_ROOT_INO = 1,
	FORMAT_NAME_MAX = 255,    /* bytes of one name */
	FORMAT_TARGET_MAX = 4095, /* bytes of one link target */
};

/*
 * Inode numbers and serial numbers are 1 or more and below this one, so that adding to them cannot wrap: a place in a listing is
 * 16 times a serial number, and more, and fits in an off_t.
 */
#define FORMAT_NUMBERS_END (UINT64_C(1) << 56)
#define FORMAT_LAYERS_END  (UINT32_C(1) << 31) /* the same for numbers of layers */

#define FORMAT_OWN_DIR ".umlfs" /* umlfs's own folder in an imported base; no member of a base may have this name */

struct disk_time {
	struct le64 sec;  /* two's complement, since the epoch */
	struct le32 nsec; /* below 10^9 */
};

struct disk_inode {
	struct le32 mode; /* type and 12 permission bits, as in st_mode */
	struct le32 uid, gid;
	struct le32 nlink; /* directories: 2 + subdirectories; others: entries of this base */
	struct le64 rdev;  /* major << 32 | minor */
	struct le64 size;
	struct le64 blocks; /* 512 bytes each */
	struct disk_time mtime, ctime;
	struct le64 stamp;      /* mtime of the host file in ns, modulo 2^64: tells that it changed since */
	struct le64 content;    /* XXH3-64 as checksum.h defines it; 0: not recorded */
	struct le32 entry;      /* the entry that names it first; the root: 0xffffffff */
	struct le32 first;      /* directory: first of its entries; symlink: offset in targets */
	struct le32 count;      /* directory: how many entries; symlink: length of the target */
	struct le32 xattrs;     /* offset in xattrs */
	struct le32 xattrs_len; /* 0: none */
};

struct disk_entry {
	struct le32 parent, ino;
	struct le32 name; /* offset in names */
	struct le16 name_len;
	struct le16 reserved;
};

enum {
	INDEX_SECTION_INODES,
	INDEX_SECTION_ENTRIES,
	INDEX_SECTION_NAMES,
	INDEX_SECTION_TARGETS,
	INDEX_SECTION_XATTRS,
	INDEX_SECTIONS,
};

enum index_flags {
	INDEX_FLAG_SCANNED = 1, /* made from a plain directory, not by import */
};

struct disk_section {
	struct le64 len;      /* bytes */
	struct le64 checksum; /* XXH3-64 of them, seed: the section's number */
};

struct disk_index_header {
	char magic[8];
	struct le32 version;
	struct le32 flags;
	struct disk_section sections[INDEX_SECTIONS];
	struct le64 checksum; /* XXH3-64 of all before */
};

struct disk_journal_header {
	char magic[8];
	struct le32 version;
	struct le32 reserved;
	struct le64 layer;    /* the layer's number */
	struct le64 checksum; /* XXH3-64 of all before */
};

struct disk_frame {
	struct le32 len;   /* bytes of payload */
	struct le32 check; /* low half of the XXH3-64 of len and serial: a length that can be believed */
	struct le64 serial;
	struct le64 checksum; /* XXH3-64 of the payload, seed: serial */
};

struct disk_table_header {
	char magic[8];
	struct le32 version;
	struct le32 layer;                       /* the layer's number */
	struct le64 first_ino;                   /* the first number that is not the base's */
	struct le64 journal_len, journal;        /* bytes of the sealed journal, and its fingerprint: see journal.h */
	struct le64 under;                       /* which layers it stands on: see stack_numbers() */
	struct le64 n_inodes, n_dirs, n_entries; /* rows */
	struct le64 bytes_len;                   /* bytes of the last section */
	struct le64 ino_end, tombstones, unsettled; /* sums over the layer: see struct layer */
	struct le64 owed, content_bytes, blocks, made;
	struct le64 body;     /* XXH3-64 of all that follows the header, seed: journal */
	struct le64 checksum; /* XXH3-64 of all before */
};

#define FORMAT_TABLE_UNTOLD UINT32_MAX /* as a length: the layer does not tell it */

struct disk_table_inode {
	struct le64 ino;
	struct le32 mode, uid, gid, nlink;
	struct le64 rdev, size, blocks, floor;
	struct disk_time atime, mtime, ctime;
	struct le64 parent, below;
	struct le32 content_layer;
	struct le32 dirty;                  /* 0 or 1 */
	struct le32 target_len, xattrs_len; /* bytes */
	struct le32 n_here, n_fresh;        /* ranges of a file in part; n_here may be untold: the file is whole */
	struct le64 bytes;                  /* offset in the last section */
};

struct disk_table_dir {
	struct le64 ino;
	struct le64 count; /* entries */
};

struct disk_table_entry {
	struct le64 ino; /* 0: a tombstone */
	struct le64 cookie;
	struct le64 hash; /* XXH3-64 of the name */
	struct le64 name; /* offset in the last section */
	struct le32 name_len;
};

struct disk_table_part {
	struct le64 below, cap; /* see struct layer_part */
};

static inline struct disk_time disk_time(struct timespec t)
{
	return (struct disk_time){le64((uint64_t)t.tv_sec), le32((uint32_t)t.tv_nsec)};
}

static inline struct timespec from_disk_time(struct disk_time t)
{
	return (struct timespec){.tv_sec = (time_t)from_le64(t.sec), .tv_nsec = (long)from_le32(t.nsec)};
}
