/* standing: which sessions stand on a base, and would be lost if another one took its place. */
#pragma once

#include "umlfs/log.h"

struct standing_base {
	int fd;            /* its directory, to be read */
	int instead;       /* the directory that has its name now, or -1: it has that itself */
	const char *label; /* as messages call it */
};

/* 0, or -EBUSY, written to log: a session that is mounted stands on this base. Of another user's that cannot be told. */
int standing_check(const struct standing_base *base, const struct log *log);

/* The same of one session, mounted or not: its directory, and how messages call it. */
int standing_check_session(const struct standing_base *base, int sessionfd, const char *label, const struct log *log);
