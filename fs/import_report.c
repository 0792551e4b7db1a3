/*
 * import_report: owns nothing; words an import's messages.
 * Invariant: a message says why, however long the member's name is.
 * Called by the files of import.
 */
#include "import_report.h"

#include <string.h>

enum { SHOWN = 300 }; /* bytes of a name: a log line holds about a thousand */

/* The end of a name that is too long to be shown whole. */
static const char *tail(const char *name)
{
	size_t len = strlen(name);

	return len > SHOWN ? name + len - SHOWN : name;
}

static const char *dots(const char *name)
{
	return strlen(name) > SHOWN ? "..." : "";
}

int import_report(const struct import_report *report, const char *name, int r, const char *why)
{
	if (!name)
		return log_error(report->log, r, "%s: %s", report->source, why);
	return log_error(report->log, r, "%s%s%s%s: %s", report->source, report->between, dots(name), tail(name), why);
}

int import_report_errno(const struct import_report *report, const char *name, int r)
{
	return import_report(report, name, r, strerror(-r));
}

void import_report_warning(const struct import_report *report, const char *name, const char *why)
{
	if (name)
		log_warning(report->log, "%s%s%s%s: %s", report->source, report->between, dots(name), tail(name), why);
	else
		log_warning(report->log, "%s: %s", report->source, why);
}
