/*
 * handles: open descriptors of content and base files, bounded, least recently used out first.
 *
 * The FUSE front end knows no open and close, so descriptors are kept as long as they are useful.
 */
#pragma once

#include <stdint.h>

struct handles;

/* capacity: most descriptors kept, at least 4, so that an operation on two files has both. */
int handles_new(unsigned int capacity, struct handles **out);
void handles_free(struct handles *h); /* closes them all */

/* The descriptor kept for (layer, ino), or -1. It stays the handles' and is valid until three more were added. */
int handles_get(struct handles *h, uint32_t layer, uint64_t ino);

/* Keeps fd for (layer, ino), which has none: takes fd, closes it when there is no memory: 0 or -ENOMEM. */
int handles_add(struct handles *h, uint32_t layer, uint64_t ino, int fd);

/* Closes one, or all of a layer. */
void handles_drop(struct handles *h, uint32_t layer, uint64_t ino);
void handles_drop_layer(struct handles *h, uint32_t layer);

unsigned int handles_count(const struct handles *h);
