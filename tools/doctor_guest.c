/*
 * doctor_guest: looks at the kernel, and boots a guest with it.
 * Invariant: the guest's root is an empty directory of its own, which is gone afterwards.
 * Called by cmd_doctor.
 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cmd.h"
#include "umlfs/scratch.h"

extern char **environ;

enum { BOOTED = 127 }; /* `umlfs run` of a command that is not there: everything before it worked */

void doctor_kernel_version(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	const char *variable = getenv("UMLFS_KERNEL");

	if (!kernel->path && kernel->name)
		doctor_say(fact, DOCTOR_FAIL, "give another file, or build one with `make ARCH=um`",
		           "%.200s: is no User-Mode Linux kernel that runs here", kernel->name);
	else if (!kernel->path && variable && *variable)
		doctor_say(fact, DOCTOR_FAIL, "set UMLFS_KERNEL to a User-Mode Linux kernel, or unset it",
		           "UMLFS_KERNEL=%.200s: is no User-Mode Linux kernel that runs here", variable);
	else if (!kernel->path)
		doctor_say(fact, DOCTOR_FAIL, "sudo apt-get install user-mode-linux",
		           "none: neither ./linux nor ./vmlinux, nor linux.uml or linux in PATH");
	else
		doctor_say(fact, DOCTOR_OK, NULL, "%s, %s", kernel->version.text, kernel->path);
}

void doctor_xstate(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	if (!kernel->path)
		doctor_say(fact, DOCTOR_OK, NULL, "not looked at without a kernel");
	else if (uml_needs_xstate_here(&kernel->version))
		doctor_say(fact, DOCTOR_LIMIT, "use a kernel of 6.13 or newer",
		           "%s may panic on AVX-512 or AMX, which are here; `umlfs run` preloads what prevents it",
		           kernel->version.text);
	else
		doctor_say(fact, DOCTOR_OK, NULL, "fit for this processor");
}

/* The last line of what a process wrote that says anything, without "umlfs: ". */
static void last_line(int fd, char *line, size_t size)
{
	char text[1024];
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);
	char *at;

	text[n > 0 ? n : 0] = '\0';
	at = strstr(text, "umlfs: ");
	at = at ? at + strlen("umlfs: ") : text;
	at[strcspn(at, "\n")] = '\0';
	snprintf(line, size, "%.180s", at);
}

/* Runs `umlfs run` with this root: its exit status, or -errno; errors gets what it says. */
static int boot(const char *kernel, const char *root, int errors)
{
	const char *argv[] = {"umlfs", "run", "--kernel", kernel, "--timeout", "60s", root, "--", "/none", NULL};
	posix_spawn_file_actions_t actions;
	int status, r;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, errors, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
	r = posix_spawn(&pid, "/proc/self/exe", &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return -r;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* What mends it: of a part of this program that is not there, what `umlfs run` says, which is cut off. */
static const char *cut_mend(char *why)
{
	static const char again[] = ": install umlfs again";
	char *at = strstr(why, again);

	if (!at)
		return "try another kernel";
	*at = '\0';
	return again + strlen(": ");
}

static void boot_in(const char *dir, const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	char root[PATH_MAX], top[PATH_MAX];
	char why[200] = "";
	int errors = memfd_create("errors", MFD_CLOEXEC);
	const char *mend;
	double start;
	int status;

	snprintf(root, sizeof(root), "%s/root", dir);
	snprintf(top, sizeof(top), "%s/root/dev", dir);
	if (errors < 0 || scratch_mkdir(root, NULL) < 0 || scratch_mkdir(top, NULL) < 0) {
		doctor_say(fact, DOCTOR_FAIL, NULL, "%s: %s", root, strerror(errno));
		return;
	}
	start = cmd_seconds();
	status = boot(kernel->path, root, errors);
	if (status == BOOTED) {
		doctor_say(fact, DOCTOR_OK, NULL, "boots and ends in %.1f s", cmd_seconds() - start);
	} else {
		last_line(errors, why, sizeof(why));
		mend = cut_mend(why);
		doctor_say(fact, DOCTOR_FAIL, mend, "does not boot: %s", why);
	}
	close(errors);
}

void doctor_guest(const struct doctor_kernel *kernel, struct doctor_fact *fact)
{
	char *dir;
	int hold;

	if (scratch_make(SCRATCH_DOCTOR, NULL, &dir, &hold) < 0) {
		doctor_say(fact, DOCTOR_FAIL, "set TMPDIR to a directory that can be written to",
		           "no temporary directory can be made");
		return;
	}
	boot_in(dir, kernel, fact);
	scratch_remove(dir, NULL);
	close(hold);
	free(dir);
}
