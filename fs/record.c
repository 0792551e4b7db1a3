/*
 * record: writes and reads the payload of a journal frame.
 * Invariant: what record_decode() accepts, it accepted completely: no effect reaches beyond the payload.
 * Called by tree, which writes records, and session, which applies them.
 */
#include "record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "format.h"

void record_start(struct record *record)
{
	record->len = 0;
	record->n_effects = 0;
	record->frees = false;
}

static void put(struct record *record, const void *bytes, size_t len)
{
	assert(len <= RECORD_MAX - record->len);
	if (len > 0)
		memcpy(record->bytes + record->len, bytes, len);
	record->len += len;
}

static void put_8(struct record *record, uint8_t n)
{
	put(record, &n, sizeof(n));
}

static void put_16(struct record *record, uint16_t n)
{
	struct le16 bytes = le16(n);

	put(record, &bytes, sizeof(bytes));
}

static void put_32(struct record *record, uint32_t n)
{
	struct le32 bytes = le32(n);

	put(record, &bytes, sizeof(bytes));
}

static void put_64(struct record *record, uint64_t n)
{
	struct le64 bytes = le64(n);

	put(record, &bytes, sizeof(bytes));
}

static void put_time(struct record *record, struct timespec t)
{
	struct disk_time bytes = disk_time(t);

	put(record, &bytes, sizeof(bytes));
}

static void put_kind(struct record *record, enum effect_kind kind, uint64_t ino)
{
	assert(record->n_effects < RECORD_EFFECTS);
	record->n_effects++;
	put_8(record, (uint8_t)kind);
	put_64(record, ino);
}

void record_inode(struct record *record, const struct inode *attr, unsigned int fields)
{
	put_kind(record, EFFECT_INODE, attr->ino);
	put_16(record, (uint16_t)fields);
	if (fields & INODE_MODE)
		put_32(record, attr->mode);
	if (fields & INODE_UID)
		put_32(record, attr->uid);
	if (fields & INODE_GID)
		put_32(record, attr->gid);
	if (fields & INODE_NLINK)
		put_32(record, attr->nlink);
	if (fields & INODE_RDEV)
		put_64(record, attr->rdev);
	if (fields & INODE_SIZE)
		put_64(record, attr->size);
	if (fields & INODE_BLOCKS)
		put_64(record, attr->blocks);
	if (fields & INODE_ATIME)
		put_time(record, attr->atime);
	if (fields & INODE_MTIME)
		put_time(record, attr->mtime);
	if (fields & INODE_CTIME)
		put_time(record, attr->ctime);
	if (fields & INODE_PARENT)
		put_64(record, attr->parent);
}

void record_entry(struct record *record, uint64_t parent, const char *name, size_t name_len, uint64_t ino)
{
	put_kind(record, EFFECT_ENTRY, parent);
	put_64(record, ino);
	put_8(record, (uint8_t)name_len);
	put(record, name, name_len);
}

void record_target(struct record *record, uint64_t ino, const char *target, size_t len)
{
	put_kind(record, EFFECT_TARGET, ino);
	put_16(record, (uint16_t)len);
	put(record, target, len);
}

void record_xattrs(struct record *record, uint64_t ino, struct xattr_set set)
{
	put_kind(record, EFFECT_XATTRS, ino);
	put_32(record, (uint32_t)set.len);
	put(record, set.bytes, set.len);
}

void record_partial(struct record *record, uint64_t ino, uint64_t below)
{
	put_kind(record, EFFECT_PARTIAL, ino);
	put_64(record, below);
}

void record_part(struct record *record, uint64_t ino, uint64_t from, uint64_t to)
{
	put_kind(record, EFFECT_PART, ino);
	put_64(record, from);
	put_64(record, to);
}

void record_below(struct record *record, uint64_t ino, uint64_t below)
{
	put_kind(record, EFFECT_BELOW, ino);
	put_64(record, below);
}

/* What is left of a payload; failed is sticky, so that a reader checks once at the end. */
struct cursor {
	const unsigned char *at;
	size_t left;
	bool failed;
};

static const unsigned char *get(struct cursor *c, size_t len)
{
	const unsigned char *bytes = c->at;

	if (c->failed || len > c->left) {
		c->failed = true;
		return NULL;
	}
	c->at += len;
	c->left -= len;
	return bytes;
}

static uint8_t get_8(struct cursor *c)
{
	const unsigned char *bytes = get(c, 1);

	return bytes ? bytes[0] : 0;
}

static uint16_t get_16(struct cursor *c)
{
	struct le16 n = {{0}};
	const unsigned char *bytes = get(c, sizeof(n));

	if (bytes)
		memcpy(&n, bytes, sizeof(n));
	return from_le16(n);
}

static uint32_t get_32(struct cursor *c)
{
	struct le32 n = {{0}};
	const unsigned char *bytes = get(c, sizeof(n));

	if (bytes)
		memcpy(&n, bytes, sizeof(n));
	return from_le32(n);
}

static uint64_t get_64(struct cursor *c)
{
	struct le64 n = {{0}};
	const unsigned char *bytes = get(c, sizeof(n));

	if (bytes)
		memcpy(&n, bytes, sizeof(n));
	return from_le64(n);
}

/* An inode's number; 0 where there may be none. */
static uint64_t get_number(struct cursor *c)
{
	uint64_t number = get_64(c);

	if (number >= FORMAT_NUMBERS_END)
		c->failed = true;
	return number;
}

static struct timespec get_time(struct cursor *c)
{
	struct timespec t = {.tv_sec = (time_t)get_64(c)};

	t.tv_nsec = (long)get_32(c);
	if (t.tv_nsec >= 1000000000)
		c->failed = true;
	return t;
}

static void get_inode(struct cursor *c, struct effect *effect)
{
	struct inode *attr = &effect->attr;
	unsigned int fields = get_16(c);

	attr->ino = effect->ino;
	effect->fields = fields;
	if (fields & ~(unsigned int)INODE_FIELDS)
		c->failed = true;
	if (fields & INODE_MODE)
		attr->mode = get_32(c);
	if (fields & INODE_UID)
		attr->uid = get_32(c);
	if (fields & INODE_GID)
		attr->gid = get_32(c);
	if (fields & INODE_NLINK)
		attr->nlink = get_32(c);
	if (fields & INODE_RDEV)
		attr->rdev = get_64(c);
	if (fields & INODE_SIZE)
		attr->size = get_64(c);
	if (fields & INODE_BLOCKS)
		attr->blocks = get_64(c);
	if (fields & INODE_ATIME)
		attr->atime = get_time(c);
	if (fields & INODE_MTIME)
		attr->mtime = get_time(c);
	if (fields & INODE_CTIME)
		attr->ctime = get_time(c);
	if (fields & INODE_PARENT)
		attr->parent = get_number(c);
	if (attr->size > INT64_MAX)
		c->failed = true;
}

static void get_entry(struct cursor *c, struct effect *effect)
{
	effect->parent = effect->ino;
	effect->ino = get_number(c);
	effect->len = get_8(c);
	effect->bytes = (const char *)get(c, effect->len);
	if (effect->len == 0 || !effect->bytes || memchr(effect->bytes, '/', effect->len) ||
	    memchr(effect->bytes, '\0', effect->len))
		c->failed = true;
}

static void get_bytes(struct cursor *c, struct effect *effect, size_t len, size_t max)
{
	effect->len = len;
	effect->bytes = (const char *)get(c, len);
	if (len > max)
		c->failed = true;
}

static void get_range(struct cursor *c, struct effect *effect, uint64_t from)
{
	effect->from = from;
	effect->to = get_64(c);
	if (effect->from >= effect->to || effect->to > INT64_MAX)
		c->failed = true;
}

static void get_effect(struct cursor *c, struct effect *effect)
{
	*effect = (struct effect){.kind = get_8(c)};
	effect->ino = get_number(c);
	if (effect->ino == 0)
		c->failed = true;
	switch (effect->kind) {
	case EFFECT_INODE:
		get_inode(c, effect);
		break;
	case EFFECT_ENTRY:
		get_entry(c, effect);
		break;
	case EFFECT_TARGET:
		get_bytes(c, effect, get_16(c), FORMAT_TARGET_MAX);
		break;
	case EFFECT_XATTRS:
		get_bytes(c, effect, get_32(c), XATTR_SET_MAX);
		if (!c->failed &&
		    xattr_set_check((struct xattr_set){(const unsigned char *)effect->bytes, effect->len}) < 0)
			c->failed = true;
		break;
	case EFFECT_PARTIAL:
	case EFFECT_BELOW:
		get_range(c, effect, 0);
		break;
	case EFFECT_PART:
		get_range(c, effect, get_64(c));
		break;
	default:
		c->failed = true;
	}
}

int record_decode(const unsigned char *payload, size_t len, struct effect effects[RECORD_EFFECTS])
{
	struct cursor c = {.at = payload, .left = len};
	int n = 0;

	while (c.left > 0 && !c.failed) {
		if (n == RECORD_EFFECTS)
			return -EUCLEAN;
		get_effect(&c, &effects[n++]);
	}
	return c.failed || n == 0 ? -EUCLEAN : n;
}
