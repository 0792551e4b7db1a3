/* check_index: whether a base's index makes sense in itself. */
#pragma once

#include "findings.h"
#include "index.h"

/*
 * Notes every row, entry, name, target and set that does not fit the others: ranges, order, parents, link
 * counts, and inodes that no path leads to. label is how findings call the file. The checksums are index_open()'s
 * business. 0 or -ENOMEM.
 */
int check_index(const struct index *ix, const char *label, struct findings *findings);
