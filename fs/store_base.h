/* store_base: finds a session's base and makes sure that it is the right one. For store alone. */
#pragma once

#include "store.h"

/* -EINVAL when one of session and base lies in the other, or they are one; base may be NULL. Written to log. */
int store_base_check_place(const struct store *store, const char *base, const struct log *log);

/*
 * Opens the base at this path into store->session.base: an imported one by its index, a plain directory by a
 * scan. is_new: its index becomes session/base.index; else it must be the one in the manifest: -ESTALE, with
 * the differences in the log.
 */
int store_base_open(struct store *store, const char *path, bool is_new, const struct log *log);

/* A base of metadata alone, from session/base.index. */
int store_base_from_copy(struct store *store, const struct log *log);
