/*
 * run_guest: the kernel's command line, what it names, and its process.
 *
 * Hostfs is confined to roots/ in the private directory, where links lead to the mountpoint and the shares: so
 * no path of the user's comes into the command line, which cannot quote.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "umlfs/initramfs.h"
#include "umlfs/scratch.h"

enum { WORDS_MAX = 24, HIGH_FD = 64 };

/* Half of a boot is the kernel measuring which checksum code is fastest. */
static const char fast_boot[] = "initcall_blacklist=raid6_select_algo,calibrate_xor_blocks";

struct words {
	char **at;
	size_t n, room;
};

__attribute__((format(printf, 2, 3))) static void add(struct words *words, const char *format, ...)
{
	va_list args;

	if (words->n + 1 >= words->room) {
		words->room += WORDS_MAX;
		words->at = reallocarray(words->at, words->room, sizeof(char *));
	}
	va_start(args, format);
	if (!words->at || vasprintf(&words->at[words->n++], format, args) < 0)
		abort();
	va_end(args);
	words->at[words->n] = NULL;
}

/* Splits at spaces outside of quotation marks, which are the kernel's to remove. */
static void add_appended(struct words *words, const char *text)
{
	while (*(text += strspn(text, " \t\n"))) {
		bool quoted = false;
		size_t len = 0;

		for (; text[len] && (quoted || !strchr(" \t\n", text[len])); len++)
			quoted ^= text[len] == '"';
		add(words, "%.*s", (int)len, text);
		text += len;
	}
}

static int guest_fd(int pipe)
{
	return RUN_FIRST_FD + pipe;
}

static void add_consoles(struct words *words, const struct run_plan *plan)
{
	add(words, "con=null");
	if (plan->terminal)
		add(words, "con0=fd:%d,fd:%d", guest_fd(RUN_INPUT), guest_fd(RUN_OUTPUT));
	else
		add(words, "con0=null,fd:%d", guest_fd(RUN_OUTPUT));
	add(words, "con1=fd:%d,fd:%d", guest_fd(RUN_ORDERS), guest_fd(RUN_STATUS));
	add(words, "con2=null,fd:%d", guest_fd(RUN_LOG));
	if (plan->apart)
		add(words, "con3=null,fd:%d", guest_fd(RUN_ERRORS));
	add(words, "console=tty2");
}

const char *run_umid(const char *dir)
{
	const char *slash = strrchr(dir, '/');

	return slash ? slash + 1 : dir;
}

char **run_command_line(const struct run_plan *plan, const char *dir)
{
	const struct run_options *o = plan->options;
	struct words words = {0};

	add(&words, "%s", plan->kernel);
	add(&words, "mem=%s", o->mem);
	add(&words, "initrd=%s/initramfs", dir);
	add(&words, "hostfs=%s/roots", dir);
	add(&words, "uml_dir=%s/", dir);
	add(&words, "umid=%s", run_umid(dir));
	add(&words, "noreboot");
	add_consoles(&words, plan);
	if (!o->raid)
		add(&words, "%s", fast_boot);
	if (o->append)
		add_appended(&words, o->append);
	return words.at;
}

static int make_link(const char *to, const char *dir, const char *name)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/roots/%s", dir, name) >= PATH_MAX)
		return -ENAMETOOLONG;
	return symlink(to, path) < 0 ? log_errno(&cmd_log, -errno, "%s", path) : 0;
}

static int make_roots(const struct run_plan *plan, const char *dir, const char *mountpoint)
{
	char path[PATH_MAX];
	int r;

	snprintf(path, sizeof(path), "%s/roots", dir);
	r = scratch_mkdir(path, &cmd_log);
	if (r == 0)
		r = make_link(mountpoint, dir, "root");
	snprintf(path, sizeof(path), "%s/roots/input", dir);
	if (r == 0 && plan->input_piped)
		r = scratch_mkdir(path, &cmd_log);
	for (size_t i = 0; r == 0 && i < plan->options->shares.n; i++) {
		char name[32];

		snprintf(name, sizeof(name), "share%zu", i);
		r = make_link(plan->shares[i].host, dir, name);
	}
	return r;
}

static int make_initramfs(const struct run_plan *plan, const char *dir)
{
	size_t n = plan->options->files.n;
	const char **files = calloc(n + 1, sizeof(*files));
	struct initramfs contents = {.init = plan->init, .files = files, .n_files = n};
	char path[PATH_MAX];
	char *job = NULL;
	int fd, r;

	if (!files)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		files[i] = plan->files[i].host;
	r = run_write_job(plan, &job, &contents.job_len);
	contents.job = job;
	snprintf(path, sizeof(path), "%s/initramfs", dir);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (r == 0)
		r = fd < 0 ? log_errno(&cmd_log, -errno, "%s", path) : initramfs_write(fd, &contents, &cmd_log);
	if (fd >= 0)
		close(fd);
	free(job);
	free(files);
	return r;
}

int run_prepare(const struct run_plan *plan, const char *dir, const char *mountpoint)
{
	int r;

	if (strpbrk(dir, " ,\"'\t\n"))
		return log_error(&cmd_log, -EINVAL,
		                 "%s: a kernel's command line cannot hold this path: set TMPDIR to another", dir);
	r = make_roots(plan, dir, mountpoint);
	return r < 0 ? r : make_initramfs(plan, dir);
}

static void set_environment(const struct run_plan *plan)
{
	const char *others = getenv("LD_PRELOAD");
	char *preload;

	setenv("TMPDIR", plan->memory_dir, 1);
	if (!plan->preload || asprintf(&preload, "%s%s%s", plan->preload, others ? ":" : "", others ? others : "") < 0)
		return;
	setenv("LD_PRELOAD", preload, 1);
}

/* Gives each guest's end its number and closes everything else. */
static void place_descriptors(int pipes[RUN_PIPES][2])
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fds[RUN_PIPES];

	for (int i = 0; i < RUN_PIPES; i++)
		fds[i] = fcntl(pipes[i][run_guest_end(i)], F_DUPFD, HIGH_FD);
	dup2(null, STDIN_FILENO);
	dup2(fds[RUN_HOST], STDOUT_FILENO);
	dup2(fds[RUN_HOST], STDERR_FILENO);
	for (int i = 0; i < RUN_HOST; i++)
		dup2(fds[i], guest_fd(i));
	close_range((unsigned int)guest_fd(RUN_HOST), ~0U, 0);
}

static _Noreturn void exec_kernel(const struct run_plan *plan, const char *dir, int pipes[RUN_PIPES][2], pid_t parent)
{
	const struct rlimit no_core = {0};
	char **words = run_command_line(plan, dir);
	sigset_t none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(RUN_FAILED);
	setpgid(0, 0);
	setrlimit(RLIMIT_CORE, &no_core);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	set_environment(plan);
	run_bind_to_cpu(plan->options);
	place_descriptors(pipes);
	if (chdir(dir) == 0)
		execv(words[0], words);
	dprintf(STDERR_FILENO, "%s: %s\n", words[0], strerror(errno));
	_exit(RUN_FAILED);
}

pid_t run_start_kernel(const struct run_plan *plan, const char *dir, int pipes[RUN_PIPES][2])
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid == 0)
		exec_kernel(plan, dir, pipes, parent);
	if (pid < 0)
		return log_errno(&cmd_log, -errno, "fork");
	setpgid(pid, pid); /* here too: whoever ends the group may be faster */
	return pid;
}
