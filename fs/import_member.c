/*
 * import_member: turns the names of an archive into paths of a base.
 * Invariant: a path that it gives out stays below the root, whatever follows it name by name.
 * Called by import_archive and import_blobs.
 */
#include "import_member.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cleanup.h"
#include "format.h"

static bool is(const char *name, size_t len, const char *what)
{
	return len == strlen(what) && memcmp(name, what, len) == 0;
}

static int check_name(const char *name, size_t len, bool first, const char **why_out)
{
	if (is(name, len, "..")) {
		*why_out = "\"..\" may lead out of the base: no base can hold this member";
		return -EPERM;
	}
	if (first && is(name, len, FORMAT_OWN_DIR)) {
		*why_out = "this is the name of umlfs's own folder: no base can hold this member";
		return -EPERM;
	}
	if (len > FORMAT_NAME_MAX) {
		*why_out = "a name of more than 255 bytes: no Linux file system can hold this member";
		return -ENAMETOOLONG;
	}
	return 0;
}

int import_member_path(const char *name, char **path_out, size_t *len_out, const char **why_out)
{
	cleanup_free char *path = malloc(strlen(name) + 1);
	size_t used = 0;

	if (!path) {
		*why_out = strerror(ENOMEM);
		return -ENOMEM;
	}
	while (*name) {
		size_t len = strcspn(name, "/");
		int r = check_name(name, len, used == 0, why_out);

		if (r < 0)
			return r;
		if (len > 0 && !is(name, len, ".")) {
			if (used > 0)
				path[used++] = '/';
			memcpy(path + used, name, len);
			used += len;
		}
		name += len;
		name += strspn(name, "/");
	}
	path[used] = '\0';
	*len_out = used;
	*path_out = take_ptr(&path);
	return 0;
}
