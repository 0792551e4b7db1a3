/* scan: a plain extracted directory as an index. */
#pragma once

#include <sys/types.h>

#include "umlfs/log.h"

/*
 * Reads the tree below dirfd and writes its index to the empty file fd. Same tree, same bytes. Mount points
 * below it are shown as the empty directories that they cover. What host_uid and host_gid own appears as 0:0;
 * so does, for the numbering of links, each host inode once. label is how messages call the base. Errors are
 * written to log with the path; a file that the caller may not read is a warning.
 */
int scan_tree(int dirfd, const char *label, uid_t host_uid, gid_t host_gid, int fd, const struct log *log);
