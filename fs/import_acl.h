/* import_acl: POSIX access control lists as archives write them, in the form that the kernel keeps in
 * attributes. */
#pragma once

#include <archive_entry.h>
#include <stdint.h>

#include "import_member.h"
#include "import_report.h"

/*
 * Adds system.posix_acl_access and system.posix_acl_default (linux/posix_acl_xattr.h) to the set on the heap
 * that *bytes is, where the entry has such lists and the set has no attribute of that name, and corrects
 * *mode: its group bits are the list's mask (acl(5)). Names of users and groups are looked up on the host;
 * one that it does not know is left out with a warning. 0, -ENOMEM, -ENOSPC for more attributes than a file
 * can have.
 */
int import_acl_add(struct archive_entry *entry, const struct import_report *report, const char *name,
                   unsigned char **bytes, size_t *len, uint32_t *mode);
