/* check_table: whether a sealed layer's table tells what its journal does. */
#pragma once

#include "findings.h"
#include "layer.h"

/*
 * Notes a table that a mount would believe, and that shows anything else than the replayed layer, whose journal has `sealed` bytes.
 * label: how findings call the session. 0 or -ENOMEM.
 */
int check_table(struct findings *findings, const char *label, const struct layer *replayed, uint64_t sealed);
