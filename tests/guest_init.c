/*
 * The first process of a test guest: boots from an initramfs, enters the root under test, runs one script.
 *
 * Owns the guest's mounts and its end. What the rig brings along (this program, the script, the share) lives
 * in the initramfs or in a tmpfs, so it dirties nothing in the root under test.
 *
 * Invariant: every way out reports on the status console and powers off, so the host never waits for a guest
 * that has nothing more to say.
 *
 * Called by the kernel only; guest.py writes its command line, from which the environment comes:
 * - UMLFS_ROOT: what hostfs shall mount as the root, a host path or one below the kernel's hostfs=DIR
 * - UMLFS_SHARE: optional, another one, mounted on share/ beside the script
 *
 * The initramfs has /files with an executable script and what else the test wants; it appears in the guest as
 * /run/umlfs, or /mnt/umlfs when the root has no /run. The script knows it as $UMLFS_DIR.
 *
 * Status console, a line each: "start" before the script, then "status N" as a shell counts; or "error WHY".
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* UML's con0 and con1; the kernel's log has con2. */
#define CONSOLE        "/dev/tty0"
#define STATUS_CONSOLE "/dev/tty1"
#define NEW_ROOT       "/newroot"

/* 127 is what a shell says of a command that it cannot run. */
#define EXIT_NO_SCRIPT 127

static int open_console(const char *path)
{
	struct termios tio;
	int fd = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (tcgetattr(fd, &tio) == 0) {
		cfmakeraw(&tio); /* what is written is what the host reads, and nothing is echoed */
		tcsetattr(fd, TCSANOW, &tio);
	}
	return fd;
}

/* Without a status console the line goes to the kernel's, which is this process's standard error. */
__attribute__((format(printf, 2, 3))) static void say(int status, const char *format, ...)
{
	int fd = status >= 0 ? status : STDERR_FILENO;
	va_list ap;

	va_start(ap, format);
	vdprintf(fd, format, ap);
	va_end(ap);
	tcdrain(fd);
}

static _Noreturn void power_off(void)
{
	sync();
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

/* Up to 6.8 the mount data is the path itself, since then it is "hostfs=PATH". */
static int mount_hostfs(const char *host_path, const char *where)
{
	char data[PATH_MAX + sizeof("hostfs=")];

	if (mount("none", where, "hostfs", 0, host_path) == 0)
		return 0;
	if (errno != EINVAL)
		return -errno;
	snprintf(data, sizeof(data), "hostfs=%s", host_path);
	return mount("none", where, "hostfs", 0, data) < 0 ? -errno : 0;
}

/* What the root has no directory for, the guest does without. */
static int mount_if_there(const char *type, const char *where)
{
	if (mount(type, where, type, MS_NOSUID, NULL) == 0 || errno == ENOENT)
		return 0;
	return -errno;
}

/* Puts /files where the script can see it; *dir becomes its path in the guest. */
static int mount_files(const char **dir)
{
	static const char *const parents[] = {"/run", "/mnt"};
	char path[64];

	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), NEW_ROOT "%s", parents[i]);
		if (mount("tmpfs", path, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") < 0) {
			if (errno == ENOENT)
				continue;
			return -errno;
		}
		snprintf(path, sizeof(path), NEW_ROOT "%s/umlfs", parents[i]);
		if (mkdir(path, 0755) < 0 || mount("/files", path, NULL, MS_BIND | MS_REC, NULL) < 0)
			return -errno;
		*dir = i == 0 ? "/run/umlfs" : "/mnt/umlfs";
		return 0;
	}
	return -ENOENT;
}

static int failed(int status, int r, const char *what, const char *path)
{
	say(status, "error %s %s: %s\n", what, path, strerror(-r));
	return r;
}

static int mount_all(int status, const char **dir)
{
	static const char *const kernel[][2] = {
		{"proc", NEW_ROOT "/proc"}, {"sysfs", NEW_ROOT "/sys"}, {"devtmpfs", NEW_ROOT "/dev"}};
	const char *root = getenv("UMLFS_ROOT");
	const char *share = getenv("UMLFS_SHARE");
	int r;

	if (root == NULL)
		return failed(status, -EINVAL, "kernel command line", "UMLFS_ROOT");
	r = mount_hostfs(root, NEW_ROOT);
	if (r < 0)
		return failed(status, r, "mount root", root);
	for (size_t i = 0; i < 3; i++) {
		r = mount_if_there(kernel[i][0], kernel[i][1]);
		if (r < 0)
			return failed(status, r, "mount", kernel[i][1]);
	}
	if (share != NULL) {
		r = mount_hostfs(share, "/files/share");
		if (r < 0)
			return failed(status, r, "mount share", share);
	}
	r = mount_files(dir);
	if (r < 0)
		return failed(status, r, "mount the script on", NEW_ROOT "/run");
	return 0;
}

/* The root under test becomes /, as switch_root(8) does it; nothing of the initramfs needs deleting. */
static int enter_root(int status)
{
	if (chdir(NEW_ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return failed(status, -errno, "enter", NEW_ROOT);
	return 0;
}

static _Noreturn void exec_script(const char *dir, int console)
{
	char script[64];
	int null = open("/dev/null", O_RDONLY); /* devtmpfs's, if the root has a /dev */

	snprintf(script, sizeof(script), "%s/script", dir);
	dup2(null, STDIN_FILENO);
	dup2(console, STDOUT_FILENO);
	dup2(console, STDERR_FILENO);
	clearenv();
	setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
	setenv("HOME", "/root", 1);
	setenv("TERM", "dumb", 1);
	setenv("UMLFS_DIR", dir, 1);
	setsid();
	execl(script, script, (char *)NULL);
	if (errno == ENOEXEC) /* it names no interpreter of its own */
		execl("/bin/sh", "sh", script, (char *)NULL);
	dprintf(STDERR_FILENO, "guest_init: interpreter of %s: %s\n", script, strerror(errno));
	_exit(EXIT_NO_SCRIPT);
}

/* Reaps orphans on the way, as init does. Returns a shell's $?, or -errno. */
static int run_script(const char *dir, int console)
{
	int state;
	pid_t pid;
	pid_t script = fork();

	if (script < 0)
		return -errno;
	if (script == 0)
		exec_script(dir, console);
	do {
		pid = waitpid(-1, &state, 0);
	} while (pid != script && (pid > 0 || errno == EINTR));
	if (pid < 0)
		return -errno;
	return WIFSIGNALED(state) ? 128 + WTERMSIG(state) : WEXITSTATUS(state);
}

static void end_processes(void)
{
	kill(-1, SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

int main(void)
{
	const char *dir = NULL;

	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	int status = open_console(STATUS_CONSOLE);
	int console = open_console(CONSOLE);
	if (status < 0 || console < 0) {
		failed(-1, status < 0 ? status : console, "open", status < 0 ? STATUS_CONSOLE : CONSOLE);
		power_off();
	}
	if (mount_all(status, &dir) < 0 || enter_root(status) < 0)
		power_off();
	say(status, "start\n");
	int r = run_script(dir, console);
	end_processes();
	tcdrain(console);
	sync(); /* a status says that the host has everything */
	if (r < 0)
		failed(status, r, "run", "script");
	else
		say(status, "status %d\n", r);
	power_off();
}
