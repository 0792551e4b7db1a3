/* import_report: how an import names the member that it fails at. */
#pragma once

#include "umlfs/log.h"

struct import_report {
	const struct log *log;
	const char *source;  /* as the caller wrote it */
	const char *between; /* stands between the source and the member's name: ": " or "/" */
};

/* Writes "source: name: why" and answers r. Of a long name the end is shown. name NULL: no member has a part
 * in it. */
int import_report(const struct import_report *report, const char *name, int r, const char *why);

/* The same with the text of errno -r for why. */
int import_report_errno(const struct import_report *report, const char *name, int r);

/* "source: name: why", and the import goes on. */
void import_report_warning(const struct import_report *report, const char *name, const char *why);
