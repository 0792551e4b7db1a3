/* check_session: whether a session is whole, and how to make it so. */
#pragma once

#include "findings.h"
#include "umlfs/log.h"

/*
 * Opens the session at path, alone, and looks everything in it over; repair: mends what can be. The findings
 * then say what was mended. 0, or an error that keeps anybody from looking or mending, written to log: those of
 * store_open() but for -EUCLEAN, which is a finding.
 */
int check_session(const char *path, bool repair, const struct log *log, struct findings *findings);
