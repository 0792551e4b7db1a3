/*
 * run_watch: carries the guest's streams, and tells the keeper when it is over.
 * Invariant: the keeper is told once to end the guest and once what becomes of the session; nothing here waits for
 * anything but poll(2).
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const double PANIC_SECONDS = 1; /* for the last lines of a kernel that panicked */

enum { FLOW_OUTPUT, FLOW_ERRORS, FLOW_LOG, FLOW_HOST, FLOW_INPUT, FLOWS };

struct watch {
	const struct run_plan *plan;
	struct run_keeper *keeper; /* its fd -1: it has ended */
	struct run_result *result;
	struct run_tail *tail;
	struct run_flow flows[FLOWS];
	struct run_input input;
	int signals, status, orders;
	double began, deadline; /* 0: none */
	char line[512];         /* of the status console, as far as it came */
	size_t line_len;
	char guest[PATH_MAX + 64];
	int kernel_status; /* as of wait(2) */
	bool told_end, ended, decided;
};

static void order(struct watch *w, enum keeper_word word)
{
	char byte = (char)word;

	if (w->keeper->fd >= 0)
		send(w->keeper->fd, &byte, 1, MSG_NOSIGNAL);
}

static void end_guest(struct watch *w)
{
	if (!w->told_end)
		order(w, KEEPER_END);
	w->told_end = true;
}

/* The first reason counts. */
static void finish(struct watch *w, enum run_end end)
{
	if (w->result->end == RUN_END_NONE)
		w->result->end = end;
	end_guest(w);
}

static void give_reason(struct watch *w, const char *why)
{
	if (!w->result->why)
		w->result->why = strdup(why);
}

static void send_size(const struct watch *w)
{
	unsigned short rows, cols;

	run_terminal_size(&rows, &cols);
	dprintf(w->orders, "%hu %hu\n", rows, cols);
}

/* The private directory, as the keeper told it behind the guest's pid. */
static const char *private_dir(const struct watch *w)
{
	const char *space = strchr(w->guest, ' ');

	return space ? space + 1 : "";
}

static void begin(struct watch *w)
{
	w->result->started = cmd_seconds() - w->began;
	run_report_start(w->plan, w->guest);
	if (w->plan->terminal) {
		run_terminal_raw();
		send_size(w); /* it may have changed since the guest was told */
		w->flows[FLOW_INPUT].from = STDIN_FILENO;
	}
	if (w->plan->input_piped && run_input_begin(&w->input, private_dir(w)) < 0)
		finish(w, RUN_END_FAILED);
}

static void take_line(struct watch *w, char *line)
{
	unsigned int part;
	int status, at = 0;

	if (strcmp(line, "start") == 0) {
		begin(w);
	} else if (sscanf(line, "taken %u", &part) == 1) {
		run_input_taken(&w->input, part);
	} else if (strcmp(line, "closed") == 0) {
		run_input_end(&w->input);
	} else if (strncmp(line, "error ", 6) == 0) {
		give_reason(w, line + 6);
		if (w->result->end == RUN_END_NONE)
			w->result->end = RUN_END_FAILED;
	} else if (sscanf(line, "refused %d %n", &status, &at) == 1 && at) {
		give_reason(w, line + at);
		w->result->status = status;
		if (w->result->end == RUN_END_NONE)
			w->result->end = RUN_END_EXIT;
	} else if (sscanf(line, "status %d", &status) == 1) {
		if (w->result->end == RUN_END_NONE)
			w->result->status = status;
		w->result->ended = cmd_seconds() - w->began;
		finish(w, RUN_END_EXIT);
	}
}

static void read_status(struct watch *w)
{
	ssize_t n = read(w->status, w->line + w->line_len, sizeof(w->line) - 1 - w->line_len);
	char *newline;

	if (n <= 0) {
		close(w->status);
		w->status = -1;
		return;
	}
	w->line_len += (size_t)n;
	w->line[w->line_len] = '\0';
	while ((newline = strchr(w->line, '\n'))) {
		*newline = '\0';
		take_line(w, w->line);
		w->line_len -= (size_t)(newline + 1 - w->line);
		memmove(w->line, newline + 1, w->line_len + 1);
	}
	if (w->line_len == sizeof(w->line) - 1)
		w->line_len = 0;
}

/*
 * Its end. Who killed it has killed the guest's kernel too, and the mount, but neither the kernel's helpers, which hold the
 * consoles open, nor the private directory.
 */
static void lose_keeper(struct watch *w)
{
	pid_t kernel = (pid_t)atoi(w->guest);

	close(w->keeper->fd);
	w->keeper->fd = -1;
	if (w->decided || !kernel)
		return;
	kill(-kernel, SIGKILL);
	w->flows[FLOW_LOG].tail = w->flows[FLOW_HOST].tail = NULL; /* its last words have nothing to do with it */
	w->tail->len = 0;
	w->result->cleaned = false;
	if (w->result->end == RUN_END_NONE)
		w->result->end = RUN_END_FAILED;
	log_error(&cmd_log, -EIO, "run: a process of it was killed: `umlfs clean` takes away what is left");
}

static void read_keeper(struct watch *w)
{
	char text[PATH_MAX + 64];
	ssize_t n = recv(w->keeper->fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	switch (text[0]) {
	case KEEPER_STARTED:
		snprintf(w->guest, sizeof(w->guest), "%s", text + 1);
		return;
	case KEEPER_ENDED:
		w->ended = true;
		w->kernel_status = atoi(text + 1);
		return;
	case KEEPER_KEPT:
		w->result->kept = strdup(text + 1);
		return;
	case KEEPER_FAILED:
		w->result->cleaned = false;
		return;
	default:
		lose_keeper(w);
		return;
	}
}

static void take_signal(struct watch *w)
{
	struct signalfd_siginfo info;

	if (read(w->signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH) {
		if (w->plan->terminal)
			send_size(w);
		return;
	}
	if (w->result->end == RUN_END_NONE || w->ended) {
		w->result->end = RUN_END_INTERRUPTED;
		w->result->signal = (int)info.ssi_signo;
	}
	end_guest(w);
}

/* The guest has ended and has said what it had to say. */
static void decide(struct watch *w)
{
	struct run_result *result = w->result;
	enum run_keep keep = w->plan->options->keep;
	bool powered_off = WIFEXITED(w->kernel_status) && WEXITSTATUS(w->kernel_status) == 0;
	bool failed;

	if (result->end == RUN_END_NONE && w->plan->options->init && result->started > 0 && powered_off)
		result->end = RUN_END_EXIT;
	if (!result->cleaned) /* the keeper has said why */
		w->tail->len = 0;
	if (result->end == RUN_END_NONE)
		result->end = w->tail->panicked ? RUN_END_PANIC : RUN_END_FAILED;
	failed = result->end != RUN_END_EXIT || result->status != 0;
	if (result->end == RUN_END_INTERRUPTED && keep == RUN_KEEP_ON_FAILURE)
		failed = false; /* whoever ends a run by hand does not want to look at it */
	order(w, keep == RUN_KEEP_ALWAYS || (keep == RUN_KEEP_ON_FAILURE && failed) ? KEEPER_KEEP : KEEPER_DROP);
	w->decided = true;
}

static bool flows_empty(const struct watch *w)
{
	struct pollfd fd;

	for (int i = 0; i < FLOW_INPUT; i++) {
		if (run_flow_wants(&w->flows[i], &fd))
			return false;
	}
	return true;
}

static void check_flow(struct watch *w, int i, int r)
{
	if (r == -EPIPE && (i == FLOW_OUTPUT || i == FLOW_ERRORS) && w->result->end == RUN_END_NONE) {
		w->result->end = RUN_END_INTERRUPTED; /* as a program that writes to a closed pipe ends */
		w->result->signal = SIGPIPE;
		end_guest(w);
	}
	if (w->tail->panicked && w->result->end == RUN_END_NONE) {
		w->result->end = RUN_END_PANIC;
		w->deadline = cmd_seconds() + PANIC_SECONDS;
	}
	if (i == FLOW_INPUT && w->flows[i].escapes >= 3 && w->result->end == RUN_END_NONE) {
		give_reason(w, "ended by Ctrl-]");
		finish(w, RUN_END_FAILED);
	}
}

static int wait_ms(const struct watch *w)
{
	double left = w->deadline - cmd_seconds();

	if (w->deadline <= 0 || w->told_end)
		return -1;
	return left > 0 ? (int)(left * 1000 < INT_MAX - 1 ? left * 1000 : INT_MAX - 1) + 1 : 0;
}

static void step(struct watch *w)
{
	struct pollfd fds[4 + FLOWS] = {
		{.fd = w->keeper->fd, .events = POLLIN},
		{.fd = w->signals, .events = POLLIN},
		{.fd = w->status, .events = POLLIN},
		{.fd = run_input_wants(&w->input) ? STDIN_FILENO : -1, .events = POLLIN},
	};

	for (int i = 0; i < FLOWS; i++)
		run_flow_wants(&w->flows[i], &fds[4 + i]);
	if (poll(fds, 4 + FLOWS, wait_ms(w)) < 0)
		return;
	if (fds[2].revents)
		read_status(w);
	for (int i = 0; i < FLOWS; i++)
		check_flow(w, i, run_flow_move(&w->flows[i], &fds[4 + i]));
	if (fds[3].revents && run_input_wants(&w->input) && run_input_move(&w->input, w->orders) < 0)
		finish(w, RUN_END_FAILED);
	if (fds[1].revents)
		take_signal(w);
	if (fds[0].revents)
		read_keeper(w);
	if (w->deadline > 0 && cmd_seconds() >= w->deadline && !w->told_end)
		finish(w, RUN_END_TIMEOUT);
	if (w->ended && w->status < 0 && !w->decided)
		decide(w);
}

static int watched_signals(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigaddset(&set, numbers[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static void set_flow(struct run_flow *flow, int from, int to, struct run_tail *tail)
{
	*flow = (struct run_flow){.from = from, .to = to, .tail = tail};
}

void run_watch(const struct run_plan *plan, struct run_keeper *keeper, int pipes[RUN_PIPES][2], struct run_tail *tail,
               struct run_result *result)
{
	static struct watch w;

	w = (struct watch){.plan = plan,
	                   .keeper = keeper,
	                   .result = result,
	                   .tail = tail,
	                   .signals = watched_signals(),
	                   .status = pipes[RUN_STATUS][0],
	                   .orders = pipes[RUN_ORDERS][1],
	                   .input = {.from = -1, .dir = -1},
	                   .began = cmd_seconds()};
	result->cleaned = true;
	if (plan->options->timeout_ms)
		w.deadline = w.began + (double)plan->options->timeout_ms / 1000;
	set_flow(&w.flows[FLOW_OUTPUT], pipes[RUN_OUTPUT][0], STDOUT_FILENO, NULL);
	set_flow(&w.flows[FLOW_ERRORS], pipes[RUN_ERRORS][0], STDERR_FILENO, NULL);
	set_flow(&w.flows[FLOW_LOG], pipes[RUN_LOG][0], plan->log, tail);
	set_flow(&w.flows[FLOW_HOST], pipes[RUN_HOST][0], -1, tail);
	set_flow(&w.flows[FLOW_INPUT], -1, pipes[RUN_INPUT][1], NULL);
	fcntl(pipes[RUN_INPUT][1], F_SETFL, O_NONBLOCK);
	while (keeper->fd >= 0 || (!flows_empty(&w) && result->end != RUN_END_INTERRUPTED))
		step(&w);
	run_terminal_restore();
	if (result->end == RUN_END_NONE)
		result->end = RUN_END_FAILED;
	while (waitpid(keeper->pid, NULL, 0) < 0 && errno == EINTR)
		;
}
