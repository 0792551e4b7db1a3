/*
 * record: one operation as the list of its effects, the payload of one journal frame.
 *
 *     payload: effect ...                 at most RECORD_EFFECTS
 *     inode:   1 | ino le64 | fields le16 | the values of the fields set, in the order of enum inode_field
 *              mode uid gid nlink le32, rdev size blocks parent le64, times disk_time, flags nothing
 *     entry:   2 | parent le64 | ino le64 (0: the name is gone) | name length 1 byte | name
 *     target:  3 | ino le64 | length le16 | the symlink's target
 *     xattrs:  4 | ino le64 | length le32 | the inode's whole set (xattr_set.h)
 *     partial: 5 | ino le64 | below le64: the content is in this layer from now on, but of the bytes before `below` only what
 *              part effects tell; the others are those of the layer below. A size below that lowers `below` for good.
 *     part:    6 | ino le64 | from le64 | to le64: the content file has the bytes from `from` up to, not with, `to`
 *              where it had them already: all that effects told of this file's bytes before is on disk, so that a hole in them
 *              was written as zeros, and not lost in a power cut
 *     below:   7 | ino le64 | below le64: the cut that lowered it was not made after all
 *
 * Effects say what is from now on, not what was done, so that applying one twice is harmless. Where two layers were joined,
 * a file may be in part twice: it then has the parts of both, and both lengths hold.
 */
#pragma once

#include "inode.h"
#include "xattr_set.h"

enum {
	RECORD_EFFECTS = 12, /* most effects of one operation */
	RECORD_MAX = XATTR_SET_MAX + 4096 + RECORD_EFFECTS * 384,
};

enum effect_kind {
	EFFECT_INODE = 1,
	EFFECT_ENTRY = 2,
	EFFECT_TARGET = 3,
	EFFECT_XATTRS = 4,
	EFFECT_PARTIAL = 5,
	EFFECT_PART = 6,
	EFFECT_BELOW = 7,
};

struct effect {
	enum effect_kind kind;
	uint64_t ino;        /* entry: the number the name means, 0 when it is gone */
	uint64_t parent;     /* entry */
	unsigned int fields; /* inode: enum inode_field; the others of attr mean nothing */
	struct inode attr;   /* inode */
	const char *bytes;   /* entry: the name; target; xattrs: borrowed from the payload, no terminator */
	size_t len;
	uint64_t from, to; /* part; partial and below: to is `below` */
};

/* A payload being written; starts as record_start(). Sized for any operation, so adding cannot fail. */
struct record {
	size_t len;
	unsigned int n_effects;
	bool frees; /* to be set by whoever writes it: the operation gives room back, so it may take the last */
	unsigned char bytes[RECORD_MAX];
};

void record_start(struct record *record);
void record_inode(struct record *record, const struct inode *attr, unsigned int fields);
void record_entry(struct record *record, uint64_t parent, const char *name, size_t name_len, uint64_t ino);
void record_target(struct record *record, uint64_t ino, const char *target, size_t len);
void record_xattrs(struct record *record, uint64_t ino, struct xattr_set set);
void record_partial(struct record *record, uint64_t ino, uint64_t below);
void record_part(struct record *record, uint64_t ino, uint64_t from, uint64_t to);
void record_below(struct record *record, uint64_t ino, uint64_t below);

/*
 * Reads a payload into at most RECORD_EFFECTS effects, which borrow its bytes: their number, or -EUCLEAN.
 * Checked: lengths, kinds, numbers, fields, names (not empty, no '/', no NUL), sets, ranges. Not checked: whether the
 * inodes exist.
 */
int record_decode(const unsigned char *payload, size_t len, struct effect effects[RECORD_EFFECTS]);
