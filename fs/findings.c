/*
 * findings: owns the list.
 * Invariant: what could not be noted for want of memory is known as such; nothing is left out in silence.
 * Called by the check modules.
 */
#include "findings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void release(struct found *found)
{
	free((char *)(uintptr_t)found->shown.where);
	free((char *)(uintptr_t)found->shown.what);
	free(found->name);
	*found = (struct found){0};
}

static char *__attribute__((format(printf, 1, 0))) print(const char *format, va_list args)
{
	char *text;

	return vasprintf(&text, format, args) < 0 ? NULL : text;
}

char *findings_where(const char *format, ...)
{
	va_list args;
	char *text;

	va_start(args, format);
	text = print(format, args);
	va_end(args);
	return text;
}

struct found *findings_add(struct findings *f, const char *kind, char *where, const char *format, ...)
{
	struct found *grown = reallocarray(f->list, f->n + 1, sizeof(*grown));
	struct found found = {.shown = {.kind = kind, .where = where}};
	va_list args;

	va_start(args, format);
	found.shown.what = print(format, args);
	va_end(args);
	if (grown)
		f->list = grown;
	if (!grown || !where || !found.shown.what) {
		release(&found);
		release(&f->lost);
		f->no_memory = true;
		return &f->lost;
	}
	f->list[f->n] = found;
	return &f->list[f->n++];
}

void findings_file(struct findings *f, const char *kind, const char *label, const char *name, const char *what)
{
	struct found *found = findings_add(f, kind, findings_where("%s/%s", label, name), "%s", what);

	found_mend(found, MEND_REMOVE_FILE);
	found->name = strdup(name);
	f->no_memory = f->no_memory || !found->name;
}

void findings_leftover(struct findings *f, const char *label, const char *name)
{
	findings_file(f, "stray", label, name, "left by a process that died before it was done");
}

void findings_fini(struct findings *f)
{
	for (size_t i = 0; i < f->n; i++)
		release(&f->list[i]);
	release(&f->lost);
	free(f->list);
	*f = (struct findings){0};
}
