/*
 * export_acl: owns nothing; reads lists.
 * Invariant: an entry gets a whole list or none of it.
 * Called by export_tar.
 */
#include "export_acl.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdbool.h>
#include <string.h>

#include "format.h"

/* One line of a list in the attribute. */
struct disk_line {
	struct le16 tag, perm;
	struct le32 id;
};

/* The tag as libarchive has it, 0: there is no such tag. */
static int archive_tag(uint16_t tag)
{
	switch (tag) {
	case ACL_USER_OBJ:
		return ARCHIVE_ENTRY_ACL_USER_OBJ;
	case ACL_USER:
		return ARCHIVE_ENTRY_ACL_USER;
	case ACL_GROUP_OBJ:
		return ARCHIVE_ENTRY_ACL_GROUP_OBJ;
	case ACL_GROUP:
		return ARCHIVE_ENTRY_ACL_GROUP;
	case ACL_MASK:
		return ARCHIVE_ENTRY_ACL_MASK;
	case ACL_OTHER:
		return ARCHIVE_ENTRY_ACL_OTHER;
	default:
		return 0;
	}
}

static struct disk_line line_at(const unsigned char *lines, size_t i)
{
	struct disk_line line;

	memcpy(&line, lines + i * sizeof(line), sizeof(line));
	return line;
}

/* libarchive takes a number above INT_MAX for 0, which is somebody else. */
static bool can_tell(const unsigned char *lines, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct disk_line line = line_at(lines, i);
		uint16_t tag = from_le16(line.tag);

		if (!archive_tag(tag) || from_le16(line.perm) > 7)
			return false;
		if ((tag == ACL_USER || tag == ACL_GROUP) && from_le32(line.id) > INT_MAX)
			return false;
	}
	return true;
}

/*
 * True when the list grants what the mode does, as acl(5) wants it: libarchive takes the entry's mode from the list. A
 * chmod through hostfs knows nothing of lists.
 */
static bool agrees(const unsigned char *lines, size_t n, uint32_t mode)
{
	uint32_t granted = 0;

	for (size_t i = 0; i < n; i++) {
		struct disk_line line = line_at(lines, i);
		uint16_t tag = from_le16(line.tag), perm = from_le16(line.perm);

		if (tag == ACL_USER_OBJ || tag == ACL_OTHER)
			granted |= (uint32_t)perm << (tag == ACL_USER_OBJ ? 6 : 0);
		if (tag == ACL_GROUP_OBJ || tag == ACL_MASK) /* the mask comes later and counts instead */
			granted = (granted & ~070u) | (uint32_t)perm << 3;
	}
	return granted == (mode & 0777);
}

static int add_list(struct archive_entry *entry, int type, const unsigned char *value, size_t len)
{
	const unsigned char *lines = value + sizeof(struct le32);
	size_t n = (len - sizeof(struct le32)) / sizeof(struct disk_line);

	if (!can_tell(lines, n) ||
	    (type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS && !agrees(lines, n, (uint32_t)archive_entry_mode(entry))))
		return 0;
	for (size_t i = 0; i < n; i++) {
		struct disk_line line = line_at(lines, i);
		uint16_t tag = from_le16(line.tag);
		int id = tag == ACL_USER || tag == ACL_GROUP ? (int)from_le32(line.id) : -1;

		if (archive_entry_acl_add_entry(entry, type, from_le16(line.perm), archive_tag(tag), id, NULL) !=
		    ARCHIVE_OK)
			return -ENOMEM;
	}
	return 0;
}

int export_acl_add(struct archive_entry *entry, struct xattr_set set)
{
	static const struct kind {
		int type;
		const char *attribute;
	} kinds[] = {
		{ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access"},
		{ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default"},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const void *value;
		ssize_t len = xattr_set_get(set, kinds[i].attribute, &value);
		struct le32 version;

		if (len < (ssize_t)sizeof(version) || ((size_t)len - sizeof(version)) % sizeof(struct disk_line) != 0)
			continue;
		memcpy(&version, value, sizeof(version));
		if (from_le32(version) == POSIX_ACL_XATTR_VERSION)
			r = add_list(entry, kinds[i].type, value, (size_t)len);
	}
	return r;
}
