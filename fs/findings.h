/* findings: what a check has found so far, and how each can be mended. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "umlfs/finding.h"

enum mend {
	MEND_NOT,            /* it stays */
	MEND_REMOVE_FILE,    /* name, in the session's directory */
	MEND_REMOVE_LAYER,   /* layer's directory */
	MEND_REMOVE_CONTENT, /* ino, in layer */
	MEND_CUT_CONTENT,    /* ino, in layer, to size bytes */
	MEND_CUT_JOURNAL,    /* of layer, to size bytes */
	MEND_CUT_TAIL,       /* of the top layer's journal: loading it does so */
	MEND_LINKS,          /* ino has number links */
	MEND_PARENT,         /* ino's ".." is number */
	MEND_ENTRY,          /* name goes from directory ino */
};

struct found {
	struct finding shown;
	enum mend mend;
	uint32_t layer;
	uint64_t ino, number;
	char *name; /* on the heap, or NULL */
};

struct findings {
	struct found *list;
	size_t n;
	bool no_memory; /* something could not be noted */
	struct found lost;
};

/*
 * Notes a finding that cannot be mended; the caller may change that in what comes back, which is valid until
 * the next one. Takes where, from findings_where().
 */
struct found *findings_add(struct findings *f, const char *kind, char *where, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Notes a file of this name in the session's directory, which is to be removed; label is how findings call the session. */
void findings_file(struct findings *f, const char *kind, const char *label, const char *name, const char *what);

/* The same for one that a process left that died. */
void findings_leftover(struct findings *f, const char *label, const char *name);

/* Text on the heap, NULL when there is no memory. */
char *findings_where(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says how it can be mended. */
static inline void found_mend(struct found *found, enum mend mend)
{
	found->mend = mend;
	found->shown.mendable = true;
}

void findings_fini(struct findings *f);
