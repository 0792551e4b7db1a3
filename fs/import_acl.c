/*
 * import_acl: owns nothing; rewrites lists.
 * Invariant: a list that comes out is one that the kernel's posix_acl_valid() takes: sorted by tag and
 * number, with a mask when it names anybody.
 * Called by import_archive.
 */
#include "import_acl.h"

#include <archive.h>
#include <errno.h>
#include <grp.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"

enum { LOOKUP_BUFFER = 64 << 10 }; /* for what getpwnam_r(3) reads, groups with many members among it */

struct list {
	struct line {
		uint16_t tag, perm;
		uint32_t id;
	} * lines;
	size_t n;
};

static int find_id(const char *name, bool user, uint32_t *id_out)
{
	cleanup_free char *buffer = malloc(LOOKUP_BUFFER);
	struct passwd passwd, *found_user = NULL;
	struct group group, *found_group = NULL;

	if (!buffer)
		return -ENOMEM;
	if (user)
		getpwnam_r(name, &passwd, buffer, LOOKUP_BUFFER, &found_user);
	else
		getgrnam_r(name, &group, buffer, LOOKUP_BUFFER, &found_group);
	if (!found_user && !found_group)
		return -ENOENT;
	*id_out = user ? passwd.pw_uid : group.gr_gid;
	return 0;
}

static uint16_t kernel_tag(int tag)
{
	switch (tag) {
	case ARCHIVE_ENTRY_ACL_USER_OBJ:
		return ACL_USER_OBJ;
	case ARCHIVE_ENTRY_ACL_USER:
		return ACL_USER;
	case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
		return ACL_GROUP_OBJ;
	case ARCHIVE_ENTRY_ACL_GROUP:
		return ACL_GROUP;
	case ARCHIVE_ENTRY_ACL_MASK:
		return ACL_MASK;
	case ARCHIVE_ENTRY_ACL_OTHER:
		return ACL_OTHER;
	default:
		return 0;
	}
}

static bool names_somebody(uint16_t tag)
{
	return tag == ACL_USER || tag == ACL_GROUP;
}

/* Reads one kind of list. -ENOENT among the results of a lookup costs only the line. */
static int read_list(struct archive_entry *entry, int type, const struct import_report *report, const char *name,
                     struct list *list)
{
	int got, permset, tag, id;
	const char *who;

	while (archive_entry_acl_next(entry, type, &got, &permset, &tag, &id, &who) == ARCHIVE_OK) {
		struct line line = {.tag = kernel_tag(tag), .perm = (uint16_t)(permset & 7), .id = (uint32_t)id};
		int r = 0;

		if (!names_somebody(line.tag))
			line.id = (uint32_t)ACL_UNDEFINED_ID;
		else if (id < 0)
			r = who && *who ? find_id(who, line.tag == ACL_USER, &line.id) : -ENOENT;
		if (r == -ENOMEM)
			return r;
		if (r < 0)
			import_report_warning(report, name,
			                      "its access control list names a user or group that this host "
			                      "does not know: left out; pack with tar --numeric-owner");
		if (r == 0 && line.tag)
			list->lines[list->n++] = line;
	}
	return 0;
}

/* acl(5): a list that names anybody has a mask; without one it is what all of the group class may do. */
static void complete(struct list *list)
{
	struct line mask = {.tag = ACL_MASK, .id = (uint32_t)ACL_UNDEFINED_ID};
	bool wanted = false;

	for (size_t i = 0; i < list->n; i++) {
		const struct line *line = &list->lines[i];

		if (line->tag == ACL_MASK)
			return;
		if (names_somebody(line->tag))
			wanted = true;
		if (names_somebody(line->tag) || line->tag == ACL_GROUP_OBJ)
			mask.perm |= line->perm;
	}
	if (wanted)
		list->lines[list->n++] = mask;
}

/* The tags' numbers grow in the order that the kernel wants. */
static int by_tag(const void *a, const void *b)
{
	const struct line *x = a;
	const struct line *y = b;

	if (x->tag != y->tag)
		return (x->tag > y->tag) - (x->tag < y->tag);
	return (x->id > y->id) - (x->id < y->id);
}

/* The list as the attribute's value, on the heap. */
static unsigned char *pack(const struct list *list, size_t *len_out)
{
	struct le32 version = le32(POSIX_ACL_XATTR_VERSION);
	unsigned char *value = malloc(sizeof(version) + list->n * sizeof(struct posix_acl_xattr_entry));
	unsigned char *at = value;

	if (!value)
		return NULL;
	memcpy(at, &version, sizeof(version));
	at += sizeof(version);
	for (size_t i = 0; i < list->n; i++) {
		const struct {
			struct le16 tag, perm;
			struct le32 id;
		} line = {le16(list->lines[i].tag), le16(list->lines[i].perm), le32(list->lines[i].id)};

		memcpy(at, &line, sizeof(line));
		at += sizeof(line);
	}
	*len_out = (size_t)(at - value);
	return value;
}

static int put(const struct list *list, const char *attribute, unsigned char **bytes, size_t *len)
{
	cleanup_free unsigned char *value = NULL;
	unsigned char *grown;
	const void *there;
	size_t value_len = 0;
	int r;

	if (xattr_set_get((struct xattr_set){*bytes, *len}, attribute, &there) >= 0)
		return 0;
	value = pack(list, &value_len);
	if (!value)
		return -ENOMEM;
	r = xattr_set_with((struct xattr_set){*bytes, *len}, attribute, value, value_len, &grown, len);
	if (r < 0)
		return r;
	free(*bytes);
	*bytes = grown;
	return 0;
}

/* libarchive reads the list's group line into the mode; where there is a mask it is the mask that belongs
 * there. */
static void correct_mode(const struct list *list, uint32_t *mode)
{
	for (size_t i = 0; i < list->n; i++) {
		if (list->lines[i].tag == ACL_MASK)
			*mode = (*mode & ~070u) | (uint32_t)list->lines[i].perm << 3;
	}
}

int import_acl_add(struct archive_entry *entry, const struct import_report *report, const char *name,
                   unsigned char **bytes, size_t *len, uint32_t *mode)
{
	static const struct kind {
		int type;
		const char *attribute;
	} kinds[] = {
		{ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access"},
		{ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default"},
	};
	int types = archive_entry_acl_types(entry);

	if (types & ARCHIVE_ENTRY_ACL_TYPE_NFS4)
		import_report_warning(report, name, "its NFSv4 access control list means nothing to Linux: left out");
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const struct kind *kind = &kinds[i];
		cleanup_free struct line *lines = NULL;
		struct list list;
		int r;

		if (!(types & kind->type))
			continue;
		/* One more for a mask that is missing. */
		lines = calloc((size_t)archive_entry_acl_reset(entry, kind->type) + 1, sizeof(*lines));
		if (!lines)
			return -ENOMEM;
		list = (struct list){.lines = lines};
		r = read_list(entry, kind->type, report, name, &list);
		if (r < 0)
			return r;
		complete(&list);
		qsort(list.lines, list.n, sizeof(*list.lines), by_tag);
		if (kind->type == ARCHIVE_ENTRY_ACL_TYPE_ACCESS)
			correct_mode(&list, mode);
		r = put(&list, kind->attribute, bytes, len);
		if (r < 0)
			return r;
	}
	return 0;
}
