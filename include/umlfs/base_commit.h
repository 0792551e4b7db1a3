/* base_commit: a state of a session as a base. */
#pragma once

#include "umlfs/import.h"

struct base_commit_options {
	const char *source; /* a session, or SESSION@SNAPSHOT */
	const char *base;   /* as of import_options, as are the others */
	bool force;
	const struct log *log;
	int (*progress)(void *arg, const struct progress *progress);
	void *progress_arg;
	void (*temporary)(const char *path); /* as of export_options */
};

/*
 * Makes the base as import_run() does: it is there whole and on disk, or not at all, with a checksum of every file. Files
 * that are as an import left them are not read: the host's file system shares or copies their bytes, and their checksums
 * go along. Errors as of import_run() and export_run(), and -EBUSY: the base that is to be replaced is the session's, or that of
 * a session that is mounted.
 */
int base_commit_run(const struct base_commit_options *options, struct import_result *result);
