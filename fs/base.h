/* base: a read-only tree with its index. */
#pragma once

#include "index.h"

struct base {
	struct index *index;
	int treefd;  /* the tree's root directory, the index's paths are below it; -1: only the index is there */
	char *label; /* how messages call it */
};

/* Takes index and treefd on success; label is copied. */
int base_new(struct index *index, int treefd, const char *label, struct base **out);
void base_free(struct base *b);

/*
 * A regular file's bytes, read-only: the descriptor or -errno. The path is resolved beneath treefd without
 * following links; a file of another size or mtime than the index tells is -EIO, written to log: never wrong
 * data.
 */
int base_open_content(const struct base *b, uint64_t ino, const struct log *log);

/* The same of a file that was opened before: 0 or -EIO, written to log. */
int base_check_content(const struct base *b, uint64_t ino, int fd, const struct log *log);
