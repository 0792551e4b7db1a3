/* request: what a command asks of a session, on an open store. */
#pragma once

#include <stdio.h>

#include "snapshot.h"
#include "umlfs/request.h"

/*
 * Carries the request out; answers go to out (the lines of umlfs/request.h). *change_out says what to clean up with
 * snapshot_clean_up(), after everybody who cached the old state was told.
 */
int request_run(struct store *store, const struct request *request, const struct log *log, FILE *out,
                struct snapshot_change *change_out);

/* True when the present state is kept by it, or dropped: what was written before belongs to that one, and to no later one. */
bool request_ends_state(const struct request *request);

/* A line of STATUS with a path, in which control characters and '%' stand as %XX. */
void request_print_path(FILE *out, const char *key, const char *path);
