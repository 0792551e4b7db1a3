/*
 * uml: looks for a User-Mode Linux kernel and knows the differences between its versions.
 * Invariant: a kernel is what answers --version as a kernel does; nothing else of it is run here.
 * Called by umlfs-run.
 */
#include "umlfs/uml.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "cleanup.h"
#include "umlfs/programs.h"

extern char **environ;

enum { VERSION_MS = 5000 };

int uml_parse_version(const char *text, struct uml_version *out)
{
	size_t len = strcspn(text, "\n");
	int major, minor, at = 0;

	if (!isdigit((unsigned char)*text) || sscanf(text, "%d.%d%n", &major, &minor, &at) < 2)
		return -EINVAL;
	if (len >= sizeof(out->text) || (text[at] && !strchr(".-+\n", text[at])))
		return -EINVAL;
	out->major = major;
	out->minor = minor;
	memcpy(out->text, text, len);
	out->text[len] = '\0';
	return 0;
}

static int spawn_version(const char *kernel, int out, pid_t *pid)
{
	char *argv[] = {(char *)(uintptr_t)kernel, (char *)(uintptr_t) "--version", NULL};
	posix_spawn_file_actions_t actions;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	r = posix_spawn(pid, kernel, &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* What comes within the time, up to size - 1 bytes. */
static void read_answer(int fd, char *text, size_t size)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
	size_t len = 0;

	while (len < size - 1 && poll(&poll_fd, 1, VERSION_MS) > 0) {
		ssize_t n = read(fd, text + len, size - 1 - len);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
}

static int ask_version(const char *kernel, struct uml_version *out)
{
	char text[128];
	int fds[2];
	pid_t pid;
	int r;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	r = spawn_version(kernel, fds[1], &pid);
	close(fds[1]);
	if (r == 0) {
		read_answer(fds[0], text, sizeof(text));
		kill(pid, SIGKILL); /* it has answered, or never will */
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
		r = uml_parse_version(text, out) < 0 ? -ENOEXEC : 0;
	}
	close(fds[0]);
	return r;
}

/* from: what stands before the name in messages. */
static int find_named(const char *from, const char *name, const struct log *log, char **path_out,
                      struct uml_version *version_out)
{
	cleanup_free char *path = programs_find(name);
	int r;

	if (!path && strchr(name, '/') && errno != ENOENT)
		return log_errno(log, -errno, "%s%s", from, name);
	if (!path)
		return log_error(log, -ENOENT, "%s%s: no such %s: give a User-Mode Linux kernel", from, name,
		                 strchr(name, '/') ? "file" : "program in PATH");
	r = ask_version(path, version_out);
	if (r == -ENOEXEC)
		return log_error(log, r, "%s%s: is no User-Mode Linux kernel: build one with ARCH=um", from, name);
	if (r < 0)
		return log_errno(log, r, "%s%s", from, name);
	*path_out = take_ptr(&path);
	return 0;
}

int uml_find(const char *name, const struct log *log, char **path_out, struct uml_version *version_out)
{
	static const char *const usual[] = {"./linux", "./vmlinux", "linux.uml", "linux"};
	const char *variable = getenv("UMLFS_KERNEL");

	if (name)
		return find_named("--kernel ", name, log, path_out, version_out);
	if (variable && *variable)
		return find_named("UMLFS_KERNEL=", variable, log, path_out, version_out);
	for (size_t i = 0; i < sizeof(usual) / sizeof(usual[0]); i++) {
		if (find_named("", usual[i], NULL, path_out, version_out) == 0)
			return 0;
	}
	return log_error(log, -ENOENT,
	                 "no User-Mode Linux kernel: neither ./linux nor ./vmlinux is one, nor is "
	                 "linux.uml or linux in PATH: install user-mode-linux, or give --kernel FILE");
}

/* True when the first line of flags has a word that begins so. */
static bool has_flag(const char *cpuinfo, const char *prefix)
{
	const char *line = strncmp(cpuinfo, "flags", 5) == 0 ? cpuinfo : strstr(cpuinfo, "\nflags");
	const char *end = line ? strchr(line + 1, '\n') : NULL;
	const char *word = line;

	while (word && (word = strstr(word, prefix)) && (!end || word < end)) {
		if (word[-1] == ' ')
			return true;
		word++;
	}
	return false;
}

bool uml_needs_preload(const struct uml_version *version)
{
	return version->major < 6 || (version->major == 6 && version->minor < 13);
}

bool uml_needs_xstate(const struct uml_version *version, const char *cpuinfo)
{
	if (!uml_needs_preload(version))
		return false;
	return has_flag(cpuinfo, "avx512") || has_flag(cpuinfo, "amx_");
}

bool uml_needs_xstate_here(const struct uml_version *version)
{
	FILE *cpuinfo = fopen("/proc/cpuinfo", "re");
	cleanup_free char *line = NULL;
	bool needed = false;
	size_t size = 0;

	while (cpuinfo && !needed && getline(&line, &size, cpuinfo) > 0)
		needed = uml_needs_xstate(version, line);
	if (cpuinfo)
		fclose(cpuinfo);
	return needed;
}

const char *uml_memory_dir(void)
{
	const char *chosen = getenv("TMPDIR");
	const char *dirs[] = {"/dev/shm", chosen && *chosen ? chosen : "/tmp"};

	for (size_t i = 0; i < 2; i++) {
		struct statvfs st;

		if (statvfs(dirs[i], &st) == 0 && !(st.f_flag & ST_NOEXEC) && access(dirs[i], W_OK) == 0)
			return dirs[i];
	}
	return NULL;
}
