/* standing: which sessions stand on a base, and would be lost if another one took its place. */
#pragma once

#include "umlfs/log.h"

/* 0, or -EBUSY, written to log: a session that is mounted stands on this base. Of another user's that cannot be told. */
int standing_check(const char *base, const struct log *log);

/* The same of one session, mounted or not: its directory, and how messages call it. */
int standing_check_session(const char *base, int sessionfd, const char *label, const struct log *log);
