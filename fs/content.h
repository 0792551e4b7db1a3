/*
 * content: regular files' bytes that a layer holds, one host file each: layers/LAYER/content/INO.
 *
 * layersfd is the session's layers folder. No descriptor is kept for a layer, so that a chain of a hundred
 * costs none. The files belong to whoever runs umlfs and have mode 0600; the mode that a guest sees is in the
 * journal.
 */
#pragma once

#include <stdint.h>

/*
 * A new empty file, replacing one that a dead process left: the descriptor, open for reading and writing, or
 * -errno.
 */
int content_create(int layersfd, uint32_t layer, uint64_t ino);

/* flags: O_RDONLY or O_RDWR. The descriptor or -errno; -ENOENT means that the store lost a file. */
int content_open(int layersfd, uint32_t layer, uint64_t ino, int flags);

/* How long the file is: 0 or -errno. */
int content_size(int layersfd, uint32_t layer, uint64_t ino, uint64_t *size_out);

/* Gives the file of one layer to another layer too. */
int content_link(int layersfd, uint32_t from, uint32_t to, uint64_t ino);

/* Removes it; that it is not there is no error. */
int content_remove(int layersfd, uint32_t layer, uint64_t ino);
