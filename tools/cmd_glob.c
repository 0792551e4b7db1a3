/*
 * cmd_glob: owns nothing.
 * Invariant: a pattern without '**' covers paths of as many names as it has.
 * Called by cmd_diff.
 */
#include "cmd_glob.h"

#include <fnmatch.h>
#include <string.h>

/* Where the next name begins, behind slashes. */
static const char *skip_slashes(const char *at)
{
	return at + strspn(at, "/");
}

static size_t name_length(const char *at)
{
	return strcspn(at, "/");
}

static bool matches_name(const char *pattern, size_t pattern_len, const char *name, size_t len)
{
	char glob[4096], text[4096];

	if (pattern_len >= sizeof(glob) || len >= sizeof(text))
		return false;
	memcpy(glob, pattern, pattern_len);
	glob[pattern_len] = '\0';
	memcpy(text, name, len);
	text[len] = '\0';
	return fnmatch(glob, text, 0) == 0;
}

/*
 * Both begin at a name. As with '*' in text, of several '**' only the last one need be tried again: `again` is the pattern
 * behind it, `from` what it has not covered yet.
 */
static bool matches(const char *pattern, const char *path)
{
	const char *again = NULL, *from = NULL;

	for (;;) {
		size_t len = name_length(pattern);

		if (len == 2 && memcmp(pattern, "**", 2) == 0) {
			pattern = again = skip_slashes(pattern + 2);
			from = path;
			if (!*pattern)
				return true;
			continue;
		}
		if (!*pattern && !*path)
			return true;
		if (*pattern && *path && matches_name(pattern, len, path, name_length(path))) {
			pattern = skip_slashes(pattern + len);
			path = skip_slashes(path + name_length(path));
			continue;
		}
		if (!again || !*from)
			return false;
		pattern = again;
		path = from = skip_slashes(from + name_length(from));
	}
}

bool cmd_glob(const char *pattern, const char *path)
{
	if (*pattern == '/')
		return matches(skip_slashes(pattern), skip_slashes(path));
	for (path = skip_slashes(path); *path; path = skip_slashes(path + name_length(path))) {
		if (matches(pattern, path))
			return true;
	}
	return false;
}
