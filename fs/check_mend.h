/* check_mend: mends what was found in a session. */
#pragma once

#include "findings.h"
#include "store.h"

/*
 * Mends everything that says how, and marks it. The store was opened for changing, its layers are not loaded.
 * A thing that cannot be mended after all is written to log with the reason and stays unmarked. When this
 * returns 0, what was mended is on disk; else -errno.
 */
int check_mend(struct store *store, struct findings *findings, const struct log *log);
