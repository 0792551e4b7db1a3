/*
 * confine: says to the kernel what this process may still do.
 * Invariant: nothing that was given up can be had again; what one version of Landlock does not know is given up without it.
 * Called by serve, between the mount and the first thread.
 */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cleanup.h"

/* Rights by their numbers in the kernel's interface, because the headers here may be older than the kernel. */
enum {
	FS_TRUNCATE = 1 << 14, /* version 3 */
	FS_MOST = 16,          /* rights on files since version 5 */
	NET_TCP = 3,           /* bind and connect: version 4 */
	SCOPE_ALL = 3,         /* abstract sockets and signals: version 6 */
};

/* As in <linux/landlock.h> of version 6; a kernel takes the part that it knows. */
struct ruleset {
	uint64_t fs, net, scoped;
};

static const uint64_t READING = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

/* No links, devices or programs: those of a guest are lines in the session's journal. */
static const uint64_t CHANGING = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |
                                 LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                 LANDLOCK_ACCESS_FS_REMOVE_DIR | FS_TRUNCATE;

/* How many of the rights on files this version knows. */
static unsigned int known_rights(int version)
{
	static const unsigned char known[] = {0, 13, 14, 15, 15};

	return version < (int)sizeof(known) ? known[version] : FS_MOST;
}

static int make_ruleset(int version, uint64_t *known_out)
{
	struct ruleset rules = {.fs = (UINT64_C(1) << known_rights(version)) - 1};
	size_t size = sizeof(rules.fs);
	long fd;

	if (version >= 4) {
		rules.net = NET_TCP;
		size = offsetof(struct ruleset, scoped);
	}
	if (version >= 6) {
		rules.scoped = SCOPE_ALL;
		size = sizeof(rules);
	}
	fd = syscall(SYS_landlock_create_ruleset, &rules, size, 0);
	if (fd < 0)
		return -errno;
	*known_out = rules.fs;
	return (int)fd;
}

static int allow(int ruleset, int dir, uint64_t rights)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = rights, .parent_fd = dir};

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno : 0;
}

static int enter_landlock(int session, int base)
{
	int version = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	cleanup_fd int proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup_fd int ruleset = -1;
	uint64_t known = 0;
	int r = 0;

	if (version < 0)
		return -errno;
	ruleset = make_ruleset(version, &known);
	if (ruleset < 0)
		return ruleset;
	if (proc >= 0) /* what the loop wants to know of its clients */
		r = allow(ruleset, proc, READING);
	if (r == 0)
		r = allow(ruleset, base, LANDLOCK_ACCESS_FS_READ_FILE);
	if (r == 0)
		r = allow(ruleset, session, (READING | CHANGING) & known);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	return r < 0 ? r : version;
}

/* Root's daemon keeps what reading a base of other users takes, and nothing else that makes it root. */
static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SYS_capget, &head, sets) < 0)
		return -errno;
	for (unsigned int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		uint32_t keep = i == 0 ? sets[i].effective & (UINT32_C(1) << CAP_DAC_OVERRIDE) : 0;

		sets[i] = (struct __user_cap_data_struct){.effective = keep, .permitted = keep};
	}
	return syscall(SYS_capset, &head, sets) < 0 ? -errno : 0;
}

/* Of a build with sanitizers, whose report can go to no file of its own any more: then to the daemon's log. */
void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

int confine_process(int session, int base)
{
	int r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
	int dropped = drop_capabilities();

	if (__sanitizer_set_report_fd)
		__sanitizer_set_report_fd((void *)STDERR_FILENO);
	if (r == 0)
		r = enter_landlock(session, base);
	return r > 0 && dropped < 0 ? dropped : r;
}

const char *confine_why_not(int r)
{
	switch (r) {
	case -ENOSYS:
		return "this kernel has no Landlock";
	case -EOPNOTSUPP:
		return "Landlock is switched off in this kernel";
	default:
		return strerror(-r);
	}
}
