/*
 * pin: how often the kernel holds each inode (FUSE's lookup counts).
 *
 * Held inodes outlive their last name. Counters are kept in pages, so that a hundred thousand held inodes
 * cost less than a megabyte.
 */
#pragma once

#include "map.h"

struct pins {
	struct map pages;
	struct map renewed; /* few: see pin_renew() */
};

/* One more hold: 0, -ENOMEM. */
int pin_get(struct pins *pins, uint64_t ino);

/* n holds less: 1 when the last one went, else 0. Numbers that are not held are ignored. */
int pin_put(struct pins *pins, uint64_t ino, uint64_t n);

/* How often it is held. */
uint64_t pin_count(const struct pins *pins, uint64_t ino);

/*
 * A held inode that the kernel takes for dead is to be another one for it from now on, until it is held no more: 0, -ENOMEM.
 * pin_generation() tells the kernel so, as the generation of struct fuse_entry_out (linux/fuse.h); it looks at that since Linux 5.14.
 */
int pin_renew(struct pins *pins, uint64_t ino);
uint64_t pin_generation(const struct pins *pins, uint64_t ino);

void pin_fini(struct pins *pins);
