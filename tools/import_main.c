/*
 * import_main: the program umlfs-import, which `umlfs import` becomes: makes a base of an archive or a directory. A program
 * of its own because libarchive brings so many libraries that loading them would cost every other command two milliseconds.
 * Invariant: interrupted by a signal, it removes what it made and says so.
 */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "umlfs/import.h"

enum { QUIET_SECONDS = 1 }; /* shorter imports show no progress */

struct progress {
	bool terminal;
	int signals;
	double started, shown; /* seconds */
};

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void show(struct progress *p, const struct import_progress *state, double now)
{
	char read_bytes[32], rate[32], total[48] = "";

	cmd_print_bytes(read_bytes, sizeof(read_bytes), state->bytes_read);
	cmd_print_bytes(rate, sizeof(rate), (unsigned long long)((double)state->bytes_read / (now - p->started)));
	if (state->bytes_total) {
		cmd_print_bytes(total, 32, state->bytes_total);
		fprintf(stderr, "\r%s of %s", read_bytes, total);
	} else {
		fprintf(stderr, "\r%s", read_bytes);
	}
	fprintf(stderr, ", %llu entries, %s/s\033[K", (unsigned long long)state->entries, rate);
	p->shown = now;
}

static int on_progress(void *arg, const struct import_progress *state)
{
	struct signalfd_siginfo info;
	struct progress *p = arg;
	double now = seconds();

	if (p->signals >= 0 && read(p->signals, &info, sizeof(info)) > 0)
		return 1;
	if (p->terminal && now - p->started > QUIET_SECONDS && now - p->shown > 0.1)
		show(p, state, now);
	return 0;
}

/* SIGINT, SIGTERM and SIGHUP as a descriptor that on_progress() looks at. */
static int signals_as_fd(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int take_force(void *arg, int flag, const char *value)
{
	((struct import_options *)arg)->force = true;
	return 0;
}

static int run_import(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "force", .val = 'F'}, {0}};
	struct progress progress = {.terminal = isatty(STDERR_FILENO), .started = seconds()};
	struct import_options options = {.log = &cmd_log, .progress = on_progress, .progress_arg = &progress};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &options, .take = take_force};
	struct import_result result;
	char size[32];
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 2, 2, &first);

	if (r >= 0)
		return r;
	options.source = argv[first];
	options.base = argv[first + 1];
	progress.signals = signals_as_fd();
	r = import_run(&options, &result);
	if (progress.shown > 0)
		fputs("\r\033[K", stderr);
	if (r == -ECANCELED)
		fprintf(stderr, "umlfs: %s: interrupted; nothing was made\n", options.base);
	if (r < 0)
		return EXIT_FAILED;
	cmd_print_bytes(size, sizeof(size), result.bytes);
	fprintf(stderr, "%s: %llu entries, %s, in %.1f s\n", options.base, (unsigned long long)result.entries, size,
	        seconds() - progress.started);
	return EXIT_DONE;
}

static const struct command command = {
	.name = "import",
	.usage = "[--force] ARCHIVE|DIR|- BASE",
	.help = "make a base of an archive (or a directory), keeping every owner, mode and device",
	.details = "ARCHIVE is a tar or cpio archive, plain or compressed with gzip, xz, zstd or bzip2; - reads one\n"
		   "from standard input. Works the same for an ordinary user as for root: what the host would refuse\n"
		   "is kept in BASE/.umlfs/index. BASE is there whole or not at all.\n\n"
		   "  --force  replace a base that is there\n",
	.run = run_import,
};

int main(int argc, char **argv)
{
	if (argc < 2)
		return cmd_usage_error(&command, "this is a part of umlfs: run `umlfs import`");
	return command.run(&command, argc - 1, argv + 1);
}
