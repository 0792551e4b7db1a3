/* import_target_own: what an import_target is made of, for its own files. */
#pragma once

#include "import_file.h"
#include "import_target.h"
#include "index_build.h"

/* The directory that was used last: archives stay in one for a while. */
struct place {
	char *path; /* with a NUL */
	size_t len, cap;
	struct build_node *node;
	int fd; /* -1 until something is made in it */
};

struct import_target {
	const struct import_report *report;
	struct build *build;
	struct checksum_content *sum;
	int root;
	struct place at;
	struct import_file file; /* fd -1: none is open */
	uint64_t bytes;
};

/* Goes to the root, so that no other directory is held. */
void import_target_leave(struct import_target *t);

/* The node of a path, without following anything; "" is the root. 0 or -ENOENT. */
int import_target_find(const struct import_target *t, const char *path, size_t len, struct build_node **out);
