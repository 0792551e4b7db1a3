/*
 * cmd_meter: owns the line of progress on a terminal.
 * Invariant: standard error gets nothing that is no terminal, and nothing within the first second.
 * Called by the commands that can take long.
 */
#include "cmd_meter.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cmd.h"

static const double QUIET_SECONDS = 1;

void cmd_meter_start(struct cmd_meter *meter)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	*meter = (struct cmd_meter){
		.terminal = isatty(STDERR_FILENO),
		.signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC),
		.started = cmd_seconds(),
	};
	if (meter->signals < 0)
		sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static void show(struct cmd_meter *m, const struct progress *state, double now)
{
	char done[32], rate[32], total[32];

	cmd_print_bytes(done, sizeof(done), state->bytes);
	cmd_print_bytes(rate, sizeof(rate), (unsigned long long)((double)state->bytes / (now - m->started)));
	fprintf(stderr, "\r%s", done);
	if (state->bytes_total) {
		cmd_print_bytes(total, sizeof(total), state->bytes_total);
		fprintf(stderr, " of %s", total);
	}
	fprintf(stderr, ", %llu entries, %s/s\033[K", (unsigned long long)state->entries, rate);
	m->shown = now;
}

int cmd_meter_tell(void *meter, const struct progress *state)
{
	struct signalfd_siginfo info;
	struct cmd_meter *m = meter;
	double now = cmd_seconds();

	if (m->signals >= 0 && read(m->signals, &info, sizeof(info)) > 0)
		return 1;
	if (m->terminal && now - m->started > QUIET_SECONDS && now - m->shown > 0.1)
		show(m, state, now);
	return 0;
}

double cmd_meter_end(struct cmd_meter *meter)
{
	if (meter->shown > 0)
		fputs("\r\033[K", stderr);
	meter->shown = 0;
	return cmd_seconds() - meter->started;
}
