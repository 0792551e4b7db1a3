/* run_report: what a run says about itself at the end, to people, to programs, and as its exit status. */
#include "run.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd_json.h"

static const char *name_of(enum run_end end, int status)
{
	switch (end) {
	case RUN_END_EXIT:
		return status > 128 ? "signal" : "exit";
	case RUN_END_TIMEOUT:
		return "timeout";
	case RUN_END_PANIC:
		return "panic";
	case RUN_END_INTERRUPTED:
		return "interrupted";
	default:
		return "failed";
	}
}

static int status_of(const struct run_result *result)
{
	if (result->end == RUN_END_TIMEOUT)
		return RUN_TIMEOUT;
	if (result->end == RUN_END_INTERRUPTED)
		return 128 + result->signal;
	return result->end == RUN_END_EXIT && result->cleaned ? result->status : RUN_FAILED;
}

static FILE *open_json(const struct run_plan *plan)
{
	int fd = plan->options->json_fd;

	return fd < 0 ? NULL : fdopen(dup(fd), "w");
}

void run_report_start(const struct run_plan *plan, const char *pid_and_dir)
{
	FILE *out = open_json(plan);
	const char *dir = strchr(pid_and_dir, ' ');

	dir = dir ? dir + 1 : "";
	if (plan->options->verbose)
		log_note(&cmd_log, "its umid is %s", run_umid(dir));
	if (!out)
		return;
	fprintf(out, "{\"event\": \"started\", \"pid\": %d, \"umid\": ", atoi(pid_and_dir));
	cmd_json_string(out, run_umid(dir));
	fputs(", \"directory\": ", out);
	cmd_json_string(out, dir);
	fputs("}\n", out);
	fclose(out);
}

static void report_json(const struct run_plan *plan, const struct run_result *result)
{
	FILE *out = open_json(plan);

	if (!out)
		return;
	fprintf(out, "{\"event\": \"ended\", \"reason\": \"%s\", \"status\": %d, \"boot_seconds\": ",
	        name_of(result->end, result->status), status_of(result));
	fprintf(out, result->started > 0 ? "%.3f" : "null", result->started);
	fputs(", \"run_seconds\": ", out);
	fprintf(out, result->ended > 0 ? "%.3f" : "null", result->ended - result->started);
	fputs(", \"kernel\": ", out);
	cmd_json_string(out, plan->version.text);
	fputs(", \"session\": ", out);
	if (result->kept)
		cmd_json_string(out, result->kept);
	else
		fputs("null", out);
	fputs("}\n", out);
	fclose(out);
}

/* What to do about a kernel that ended by itself. */
static void advise(const struct run_options *o, const struct run_tail *tail, char *text, size_t size)
{
	if (run_tail_lacks_memory(tail))
		snprintf(text, size, "its memory is too small: give --mem more than %s", o->mem);
	else if (o->log_path)
		snprintf(text, size, "%s has all it said", o->log_path);
	else
		snprintf(text, size, "--log FILE keeps all it said");
}

static void report_failure(const struct run_plan *plan, const struct run_result *result, const struct run_tail *tail)
{
	char why[256], todo[PATH_MAX];

	if (tail->len && !(result->end == RUN_END_FAILED && result->why)) {
		fputs("--- the kernel's last words\n", stderr);
		run_tail_print(tail, stderr);
		fputs("---\n", stderr);
	}
	advise(plan->options, tail, todo, sizeof(todo));
	run_tail_panic(tail, why, sizeof(why));
	if (result->end == RUN_END_PANIC)
		log_error(&cmd_log, 0, "guest: %s: %s", why, todo);
	else if (result->why)
		log_error(&cmd_log, 0, "guest: %s", result->why);
	else if (tail->len)
		log_error(&cmd_log, 0, "%s: the guest ended without a status: %s", plan->kernel, todo);
}

int run_report(const struct run_plan *plan, const struct run_result *result, const struct run_tail *tail)
{
	if (plan->options->verbose && result->started > 0)
		log_note(&cmd_log, "booted in %.2f s", result->started);
	if (result->end == RUN_END_PANIC || result->end == RUN_END_FAILED)
		report_failure(plan, result, tail);
	else if (result->end == RUN_END_EXIT && result->why)
		log_error(&cmd_log, 0, "guest: %s", result->why);
	else if (result->end == RUN_END_TIMEOUT)
		log_error(&cmd_log, 0, "run: ended after %.1f s, as --timeout says",
		          (double)(plan->options->timeout_ms - 1) / 1000);
	if (result->kept)
		log_note(&cmd_log, "the session stays: %s", result->kept);
	report_json(plan, result);
	fflush(NULL);
	if (result->end == RUN_END_INTERRUPTED) { /* so that a shell's loop ends as well */
		sigset_t none;

		sigemptyset(&none);
		signal(result->signal, SIG_DFL);
		raise(result->signal);
		sigprocmask(SIG_SETMASK, &none, NULL);
	}
	return status_of(result);
}
