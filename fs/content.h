/*
 * content: regular files' bytes that a layer holds, one host file each, named by inode number.
 *
 * The files belong to whoever runs umlfs and have mode 0600; the mode that a guest sees is in the journal.
 */
#pragma once

#include <stdint.h>

/* A new empty file, replacing one that a dead process left: the descriptor, open for reading and writing, or -errno. */
int content_create(int dirfd, uint64_t ino);

/* flags: O_RDONLY or O_RDWR. The descriptor or -errno; -ENOENT means that the store lost a file. */
int content_open(int dirfd, uint64_t ino, int flags);

/* Removes it; that it is not there is no error. */
int content_remove(int dirfd, uint64_t ino);
