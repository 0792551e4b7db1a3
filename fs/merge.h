/* merge: does away with layers that no snapshot names any more. */
#pragma once

#include "store.h"

/*
 * Joins each sealed layer that has no name and one layer on it with that layer, one replacement of the
 * manifest each: states and the session stay as they are, names and bytes that the upper layer hides are
 * freed. The session's base must be open and its layers not loaded. A join that fails (a full disk) is left
 * for later, that is no error; damage is.
 */
int merge_layers(struct store *store);
