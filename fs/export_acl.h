/* export_acl: access control lists as the records of pax archives that other tools restore. For export_tar alone. */
#pragma once

#include "xattr_set.h"

struct archive_entry;

/*
 * Tells the entry of the lists among the attributes, so that libarchive writes them as SCHILY.acl.*; after the entry's mode.
 * One that cannot be told so, or does not agree with the mode, is left to the attribute itself. 0 or -ENOMEM.
 */
int export_acl_add(struct archive_entry *entry, struct xattr_set set);
