/* check_base: whether an imported base is whole. */
#pragma once

#include "findings.h"
#include "umlfs/log.h"

/*
 * Looks the base below dirfd over: its index, and the tree against that. label is how findings call it. 0, or
 * an error that keeps anybody from looking, written to log.
 */
int check_base(int dirfd, const char *label, const struct log *log, struct findings *findings);
