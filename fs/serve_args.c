/*
 * serve_args: turns the options of a mount into those of libfuse and fusermount3.
 * Invariant: a path with commas or backslashes stays one value.
 * Called by serve.
 */
#include "serve_args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"

/* Adds "-o name=value" with what separates options escaped. */
static int add_value(struct fuse_args *args, const char *name, const char *value)
{
	cleanup_free char *option = malloc(strlen(name) + 2 * strlen(value) + 2);
	char *to;

	if (!option)
		return -ENOMEM;
	to = stpcpy(option, name);
	for (; *value; value++) {
		if (*value == ',' || *value == '\\')
			*to++ = '\\';
		*to++ = *value;
	}
	*to = '\0';
	return fuse_opt_add_arg(args, "-o") < 0 || fuse_opt_add_arg(args, option) < 0 ? -ENOMEM : 0;
}

int serve_args(const struct serve_options *o, const char *source, struct fuse_args *args)
{
	int r = fuse_opt_add_arg(args, "umlfs") < 0 ? -ENOMEM : 0;

	if (r == 0)
		r = add_value(args, "fsname=", source);
	if (r == 0)
		r = add_value(args, "subtype=", "umlfs");
	if (r == 0 && (o->allow_other || (o->posix && geteuid() == 0)))
		r = add_value(args, "allow_other", "");
	if (r == 0 && o->posix)
		r = add_value(args, "default_permissions", "");
	if (r == 0 && o->read_only)
		r = add_value(args, "ro", "");
	if (r == 0 && o->posix && geteuid() == 0)
		r = add_value(args, o->nodev ? "nodev" : "dev", "");
	if (r == 0 && o->posix && geteuid() == 0)
		r = add_value(args, o->nosuid ? "nosuid" : "suid", "");
	if (r == 0 && o->noexec)
		r = add_value(args, "noexec", "");
	return r;
}
