/*
 * import_header: owns a copy of the last bytes before the block that libarchive was given.
 * Invariant: bytes are taken for a header only when their checksum is right.
 * Called by import_archive.
 */
#include "import_header.h"

#include <stdbool.h>
#include <string.h>

enum { MODE_AT = 100, SUM_AT = 148, NUMBER = 8 }; /* POSIX pax: ustar header block */

void import_header_keep(struct import_header *h)
{
	size_t part = h->len < sizeof(h->before) ? h->len : sizeof(h->before);

	if (part == 0)
		return;
	memmove(h->before, h->before + part, sizeof(h->before) - part);
	memcpy(h->before + sizeof(h->before) - part, (const unsigned char *)h->block + h->len - part, part);
}

void import_header_give(struct import_header *h, const void *block, size_t len)
{
	h->block = block;
	h->len = len;
	h->given += len;
}

size_t import_header_untaken(const struct import_header *h, struct archive *a)
{
	uint64_t untaken = h->given - (uint64_t)archive_filter_bytes(a, 0);

	return untaken < h->len ? (size_t)untaken : h->len;
}

/* Octal digits, with spaces before them, and a space or NUL behind them. */
static bool number(const unsigned char *field, uint32_t *out)
{
	uint32_t n = 0;
	size_t i = 0, first;

	while (i < NUMBER && field[i] == ' ')
		i++;
	for (first = i; i < NUMBER && field[i] >= '0' && field[i] <= '7'; i++)
		n = n * 8 + (uint32_t)(field[i] - '0');
	*out = n;
	return i > first && (i == NUMBER || field[i] == ' ' || field[i] == '\0');
}

static bool sum_is_right(const unsigned char *header)
{
	uint32_t sum = ' ' * NUMBER, wanted;

	for (size_t i = 0; i < IMPORT_HEADER_BYTES; i++)
		sum += i >= SUM_AT && i < SUM_AT + NUMBER ? 0 : header[i];
	return number(header + SUM_AT, &wanted) && sum == wanted;
}

/* False where no header ends, as behind the map of a sparse file. */
static bool mode_before(const struct import_header *h, size_t taken, uint32_t *out)
{
	unsigned char header[IMPORT_HEADER_BYTES];
	size_t part = taken < sizeof(header) ? taken : sizeof(header);

	memcpy(header, h->before + part, sizeof(header) - part);
	if (part > 0)
		memcpy(header + sizeof(header) - part, (const unsigned char *)h->block + taken - part, part);
	return sum_is_right(header) && number(header + MODE_AT, out);
}

uint32_t import_header_mode(const struct import_header *h, struct archive *a, struct archive_entry *entry)
{
	uint32_t mode = archive_entry_mode(entry) & 07777, told;

	if ((archive_format(a) & ARCHIVE_FORMAT_BASE_MASK) != ARCHIVE_FORMAT_TAR ||
	    !mode_before(h, h->len - import_header_untaken(h, a), &told))
		return mode;
	/* The list itself has the others, in any version. */
	if (archive_entry_acl_types(entry) & ARCHIVE_ENTRY_ACL_TYPE_ACCESS)
		told = (mode & 0777) | (told & 07000);
	return told & 07777;
}
