/*
 * xattr_set: packs and reads extended attributes.
 * Invariant: a set that passed xattr_set_check() is never read beyond its end.
 * Called by index, record, layer, tree, import.
 */
#include "xattr_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"

enum { ITEM_HEAD = 5 };

struct item {
	const char *name;
	size_t name_len;
	const unsigned char *value;
	size_t value_len;
	size_t size; /* of the whole item */
};

/* Reads the item at *at and moves *at behind it: 1, 0 at the end, -EUCLEAN. */
static int next_item(struct xattr_set set, size_t *at, struct item *out)
{
	size_t left = set.len - *at;
	const unsigned char *p;
	struct le32 value_len;

	if (left == 0)
		return 0;
	p = set.bytes + *at;
	if (left < ITEM_HEAD || p[0] == 0)
		return -EUCLEAN;
	memcpy(&value_len, p + 1, sizeof(value_len));
	out->name_len = p[0];
	out->value_len = from_le32(value_len);
	out->size = ITEM_HEAD + out->name_len + out->value_len;
	if (out->size > left)
		return -EUCLEAN;
	out->name = (const char *)p + ITEM_HEAD;
	out->value = p + ITEM_HEAD + out->name_len;
	*at += out->size;
	return 1;
}

int xattr_set_check(struct xattr_set set)
{
	struct item item;
	size_t at = 0;
	int r;

	while ((r = next_item(set, &at, &item)) > 0) {
		if (memchr(item.name, '\0', item.name_len))
			return -EUCLEAN;
	}
	return r;
}

static int compare_name(const struct item *item, const char *name, size_t len)
{
	int order = memcmp(item->name, name, item->name_len < len ? item->name_len : len);

	if (order != 0)
		return order;
	return (item->name_len > len) - (item->name_len < len);
}

ssize_t xattr_set_get(struct xattr_set set, const char *name, const void **value_out)
{
	size_t len = strlen(name);
	struct item item;
	size_t at = 0;

	while (next_item(set, &at, &item) > 0) {
		if (compare_name(&item, name, len) == 0) {
			*value_out = item.value;
			return (ssize_t)item.value_len;
		}
	}
	return -ENODATA;
}

ssize_t xattr_set_list(struct xattr_set set, char *names, size_t size)
{
	size_t total = 0;
	struct item item;
	size_t at = 0;

	while (next_item(set, &at, &item) > 0) {
		if (size > 0) {
			if (total + item.name_len + 1 > size)
				return -ERANGE;
			memcpy(names + total, item.name, item.name_len);
			names[total + item.name_len] = '\0';
		}
		total += item.name_len + 1;
	}
	return (ssize_t)total;
}

static size_t put_item(unsigned char *to, const char *name, size_t name_len, const void *value, size_t value_len)
{
	struct le32 len = le32((uint32_t)value_len);

	to[0] = (unsigned char)name_len;
	memcpy(to + 1, &len, sizeof(len));
	memcpy(to + ITEM_HEAD, name, name_len);
	if (value_len)
		memcpy(to + ITEM_HEAD + name_len, value, value_len);
	return ITEM_HEAD + name_len + value_len;
}

int xattr_set_with(struct xattr_set set, const char *name, const void *value, size_t value_len,
                   unsigned char **bytes_out, size_t *len_out)
{
	size_t name_len = strlen(name);
	cleanup_free unsigned char *bytes = NULL;
	struct item item;
	size_t used = 0;
	size_t at = 0;

	if (name_len == 0 || name_len > UINT8_MAX)
		return -ERANGE;
	if (value_len > XATTR_VALUE_MAX)
		return -E2BIG;
	bytes = malloc(set.len + ITEM_HEAD + name_len + value_len);
	if (!bytes)
		return -ENOMEM;
	while (next_item(set, &at, &item) > 0) {
		int order = compare_name(&item, name, name_len);

		if (order == 0)
			continue;
		if (order > 0 && value) {
			used += put_item(bytes + used, name, name_len, value, value_len);
			value = NULL;
		}
		memcpy(bytes + used, set.bytes + at - item.size, item.size);
		used += item.size;
	}
	if (value)
		used += put_item(bytes + used, name, name_len, value, value_len);
	if (used > XATTR_SET_MAX)
		return -ENOSPC;
	*len_out = used;
	*bytes_out = take_ptr(&bytes);
	return 0;
}
