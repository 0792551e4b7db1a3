/* check_table: whether a sealed layer's table tells what its journal does. */
#pragma once

#include "findings.h"
#include "layer.h"

/*
 * Notes a table that is whole and belongs to the key, and shows anything else than the replayed layer; sums are not
 * compared. label: how findings call the session. 0 or -errno.
 */
int check_table(struct findings *findings, const char *label, const struct layer *replayed,
                const struct layer_table_key *key);
