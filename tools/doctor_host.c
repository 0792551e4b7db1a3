/*
 * doctor_host: looks at the machine: devices, programs, limits, the kernel's settings.
 * Invariant: changes nothing.
 * Called by cmd_doctor.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "umlfs/mounts.h"
#include "umlfs/programs.h"

enum {
	DESCRIPTORS = 320, /* what a daemon keeps open at most, and some */
	MEMORY_MIB = 256,  /* of a guest, unless told otherwise */
};

void doctor_fuse(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		doctor_say(fact, DOCTOR_OK, NULL, "opens");
	else if (errno == EACCES)
		doctor_say(fact, DOCTOR_FAIL, "sudo chmod 0666 /dev/fuse", "no permission");
	else
		doctor_say(fact, DOCTOR_FAIL, "sudo modprobe fuse", "%s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

void doctor_fusermount(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	char *file = programs_find("fusermount3");
	struct stat st;

	if (geteuid() == 0)
		doctor_say(fact, DOCTOR_OK, NULL, "not needed by root");
	else if (!file)
		doctor_say(fact, DOCTOR_FAIL, "sudo apt-get install fuse3", "not in PATH");
	else if (stat(file, &st) < 0 || st.st_uid != 0 || !(st.st_mode & S_ISUID))
		doctor_say(
			fact, DOCTOR_FAIL,
			"sudo chown root \"$(command -v fusermount3)\" && sudo chmod u+s \"$(command -v fusermount3)\"",
			"%s: is not setuid root", file);
	else if (access("/etc/mtab", R_OK) < 0)
		doctor_say(fact, DOCTOR_FAIL, "sudo ln -s ../proc/self/mounts /etc/mtab",
		           "unmounts nothing without /etc/mtab: %s", strerror(errno));
	else
		doctor_say(fact, DOCTOR_OK, NULL, "%s", file);
	free(file);
}

void doctor_memory(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	const char *dir = uml_memory_dir();
	unsigned long long free_mib;
	struct statvfs st;
	struct statfs type;

	if (!dir || statvfs(dir, &st) < 0 || statfs(dir, &type) < 0) {
		doctor_say(fact, DOCTOR_FAIL, "sudo mount -o remount,exec /dev/shm",
		           "neither /dev/shm nor the temporary directory can be written to and executed from");
		return;
	}
	free_mib = (unsigned long long)st.f_bavail * st.f_frsize >> 20;
	if (free_mib < MEMORY_MIB)
		doctor_say(fact, DOCTOR_LIMIT, "sudo mount -o remount,size=50% /dev/shm",
		           "%s: %llu MiB are free, a guest of %d MiB may die when it uses them", dir, free_mib,
		           MEMORY_MIB);
	else if (type.f_type != TMPFS_MAGIC)
		doctor_say(fact, DOCTOR_LIMIT, "sudo mount -o remount,exec /dev/shm",
		           "%s: is not a tmpfs: guests are slow", dir);
	else
		doctor_say(fact, DOCTOR_OK, NULL, "%s: tmpfs, exec, %llu MiB free", dir, free_mib);
}

/* A number that the kernel shows in /proc/sys; otherwise when it shows none. */
static long read_setting(const char *path, long otherwise)
{
	FILE *file = fopen(path, "re");
	long value;

	if (!file)
		return otherwise;
	if (fscanf(file, "%ld", &value) != 1) /* NOLINT(cert-err34-c): a number of the kernel's own */
		value = otherwise;
	fclose(file);
	return value;
}

/* UML runs its processes under ptrace: whether that is allowed is best known by doing it. */
static bool may_ptrace(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void doctor_ptrace(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	long scope = read_setting("/proc/sys/kernel/yama/ptrace_scope", 0);

	if (may_ptrace())
		doctor_say(fact, DOCTOR_OK, NULL, "allowed");
	else if (scope > 2)
		doctor_say(fact, DOCTOR_FAIL, "set kernel.yama.ptrace_scope=1 in /etc/sysctl.d and boot again",
		           "forbidden by kernel.yama.ptrace_scope=%ld", scope);
	else if (scope == 2)
		doctor_say(fact, DOCTOR_FAIL, "sudo sysctl kernel.yama.ptrace_scope=1",
		           "forbidden by kernel.yama.ptrace_scope=2");
	else
		doctor_say(
			fact, DOCTOR_FAIL,
			"allow ptrace where this machine's container is configured (for example --cap-add=SYS_PTRACE)",
			"forbidden, probably by a container's filter");
}

void doctor_descriptors(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS)
		doctor_say(fact, DOCTOR_OK, NULL, "%llu", (unsigned long long)limit.rlim_cur);
	else
		doctor_say(fact, DOCTOR_LIMIT, "ulimit -n 1024", "%llu: a mount keeps fewer files open and is slower",
		           (unsigned long long)limit.rlim_cur);
}

void doctor_hardlinks(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	long on = read_setting("/proc/sys/fs/protected_hardlinks", 0);

	if (geteuid() == 0)
		doctor_say(fact, DOCTOR_OK, NULL, "does not concern root");
	else if (on)
		doctor_say(fact, DOCTOR_LIMIT, "sudo sysctl fs.protected_hardlinks=0",
		           "1: in guests, hard links to setuid files, FIFOs, sockets and symlinks are refused");
	else
		doctor_say(fact, DOCTOR_OK, NULL, "0");
}

void doctor_confinement(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (version > 0)
		doctor_say(fact, DOCTOR_OK, NULL, "Landlock, ABI %ld", version);
	else
		doctor_say(fact, DOCTOR_LIMIT, "boot with lsm=landlock,... on Linux 5.13 or newer",
		           "no Landlock: a mount's daemon gives up its privileges only");
}

struct dead {
	int n;
	char first[128];
};

static int count_dead(void *arg, const struct mount_info *mount)
{
	struct dead *dead = arg;

	if ((geteuid() == 0 || mount->user == geteuid()) && mounts_is_dead(mount) && dead->n++ == 0)
		snprintf(dead->first, sizeof(dead->first), "%s", mount->mountpoint);
	return 0;
}

void doctor_mounts(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	struct dead dead = {0};

	mounts_each(count_dead, &dead);
	if (dead.n)
		doctor_say(fact, DOCTOR_LIMIT, "umlfs clean", "%d without a daemon, for example %s", dead.n,
		           dead.first);
	else
		doctor_say(fact, DOCTOR_OK, NULL, "none is dead");
}
