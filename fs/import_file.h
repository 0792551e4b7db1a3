/* import_file: the bytes of one regular file on their way into the base. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "checksum.h"
#include "index_build.h"

struct import_file {
	int fd;
	struct build_node *node;      /* what is told of the content is set at the end */
	struct checksum_content *sum; /* borrowed */
	uint64_t end;                 /* no byte may come before it any more */
	uint64_t next_block, n_blocks;
};

/* Takes fd, of an empty file. sum is this file's alone until the end. */
void import_file_init(struct import_file *file, int fd, struct build_node *node, struct checksum_content *sum);
void import_file_fini(struct import_file *file);

/* Bytes at offset; what is left out between is a hole. Offsets grow: -EUCLEAN for one that does not. */
int import_file_write(struct import_file *file, const void *bytes, size_t len, uint64_t offset);

/* All of another host file of this size, whose checksum is known; the file is complete then. */
int import_file_clone(struct import_file *file, int fd, uint64_t size, uint64_t checksum);

/*
 * The file is complete and of this size: -EUCLEAN when more was written. node gets size, blocks, stamp and
 * checksum; the host file gets node's mtime as far as the host can.
 */
int import_file_end(struct import_file *file, uint64_t size);
