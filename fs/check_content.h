/* check_content: whether a layer's files on disk are those that its records name. */
#pragma once

#include "check_tree.h"
#include "manifest.h"

struct check_content {
	const struct layer *layer; /* loaded, nothing forgotten */
	const struct stack *stack; /* that ends with it */
	bool host_cut;             /* the host went down while the session was in use */
	const struct manifest_layer *listed;
	const struct check_tree *tree; /* of the state that ends with this layer; NULL: findings tell no paths */
	const char *label;             /* how findings call the session */
	const struct log *log;
	struct findings *findings;
};

/*
 * Notes content files that are missing, of another size than their inodes, without the parts that records tell or without a
 * file below that has the others, or named by no record, strange files
 * in the layer's folder, a journal that goes on behind its sealed end, and a table that tells something else. 0, or an error that keeps anybody
 * from looking, written to log.
 */
int check_content(const struct check_content *c);
