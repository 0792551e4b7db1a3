/* import_header: a member's own tar header, of which libarchive does not tell all. */
#pragma once

#include <archive.h>
#include <archive_entry.h>
#include <stddef.h>
#include <stdint.h>

enum { IMPORT_HEADER_BYTES = 512 };

/* Zeros to begin with. */
struct import_header {
	const void *block; /* given to libarchive last */
	size_t len;
	uint64_t given;                            /* bytes, that block among them */
	unsigned char before[IMPORT_HEADER_BYTES]; /* the end of what went before the block */
};

/* The block goes; asked for before the next one is read. */
void import_header_keep(struct import_header *h);
void import_header_give(struct import_header *h, const void *block, size_t len);

/* How many bytes at the end of the block libarchive has not taken. */
size_t import_header_untaken(const struct import_header *h, struct archive *a);

/*
 * The permission bits of the entry that was read last, with setuid, setgid and sticky. libarchive 3.7.5 and newer forgets those of
 * a tar header when a pax header before it has an ACL: these three, and all when the ACL is for new files only.
 */
uint32_t import_header_mode(const struct import_header *h, struct archive *a, struct archive_entry *entry);
