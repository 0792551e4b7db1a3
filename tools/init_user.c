/*
 * init_user: finds a user in the guest's own files. Not with getpwnam(3), which would want the C library's plug-ins.
 */
#include "init.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { GROUPS_MAX = 1024 };

static void set(struct init_user *user, const char *name, const char *home, const char *shell)
{
	snprintf(user->name, sizeof(user->name), "%s", name);
	snprintf(user->home, sizeof(user->home), "%s", home && *home ? home : "/");
	snprintf(user->shell, sizeof(user->shell), "%s", shell && *shell ? shell : "/bin/sh");
}

/* The number that the whole text is, or -1. */
static long number_of(const char *text)
{
	char *end;
	long n = strtol(text, &end, 10);

	return *text >= '0' && *text <= '9' && !*end && n < 0xffffffffL ? n : -1;
}

int init_find_user(const char *name, struct init_user *user_out)
{
	long number = number_of(name);
	FILE *table = fopen("/etc/passwd", "re");
	struct passwd *row;
	char what[128];

	while (table && (row = fgetpwent(table))) {
		if (strcmp(row->pw_name, name) != 0 && (number < 0 || (long)row->pw_uid != number))
			continue;
		user_out->uid = row->pw_uid;
		user_out->gid = row->pw_gid;
		set(user_out, row->pw_name, row->pw_dir, row->pw_shell);
		fclose(table);
		return 0;
	}
	if (table)
		fclose(table);
	if (number < 0 && strcmp(name, "root") == 0)
		number = 0;
	if (number < 0) {
		snprintf(what, sizeof(what), "--user %s: no such user in its /etc/passwd", name);
		init_failed(0, what);
		return -ENOENT;
	}
	user_out->uid = user_out->gid = (uid_t)number;
	set(user_out, name, number == 0 ? "/root" : "/", NULL);
	return 0;
}

/* The groups that name the user as a member, after the user's own. */
static size_t find_groups(const struct init_user *user, gid_t groups[GROUPS_MAX])
{
	FILE *table = fopen("/etc/group", "re");
	struct group *row;
	size_t n = 0;

	groups[n++] = user->gid;
	while (table && n < GROUPS_MAX && (row = fgetgrent(table))) {
		for (char **member = row->gr_mem; n < GROUPS_MAX && *member; member++) {
			if (strcmp(*member, user->name) == 0 && row->gr_gid != user->gid)
				groups[n++] = row->gr_gid;
		}
	}
	if (table)
		fclose(table);
	return n;
}

int init_become(const struct init_user *user)
{
	static gid_t groups[GROUPS_MAX];

	if (setgroups(find_groups(user, groups), groups) < 0)
		return -errno;
	return setgid(user->gid) < 0 || setuid(user->uid) < 0 ? -errno : 0;
}
