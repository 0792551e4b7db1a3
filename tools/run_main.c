/*
 * run_main: the program umlfs-run, which `umlfs run` becomes: mounts, boots, runs, and takes everything away. A program of
 * its own because it brings libarchive, which is slow to load.
 * Invariant: a keeper, another process, makes and removes everything; this one may die at any moment.
 */
#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd_bus.h"

static void print_quoted(const char *word)
{
	if (*word &&
	    strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%") == strlen(word)) {
		fputs(word, stdout);
		return;
	}
	putchar('\'');
	for (; *word; word++)
		fputs(*word == '\'' ? "'\\''" : (char[]){*word, '\0'}, stdout);
	putchar('\'');
}

static int print_command_line(const struct run_plan *plan)
{
	const char *chosen = getenv("TMPDIR");
	char dir[PATH_MAX];
	char **words;

	snprintf(dir, sizeof(dir), "%s/umlfs-run-XXXXXX", chosen && *chosen ? chosen : "/tmp");
	words = run_command_line(plan, dir);
	printf("TMPDIR=%s ", plan->memory_dir);
	if (plan->preload)
		printf("LD_PRELOAD=%s ", plan->preload);
	for (char **word = words; *word; word++) {
		print_quoted(*word);
		putchar(word[1] ? ' ' : '\n');
		free(*word);
	}
	free(words);
	return EXIT_DONE;
}

static void say_plan(const struct run_plan *plan)
{
	log_note(&cmd_log, "kernel %s, Linux %s", plan->kernel, plan->version.text);
	if (plan->preload)
		log_note(&cmd_log, "kernels before 6.13 are run with %s", plan->preload);
	if (plan->session)
		log_note(&cmd_log, "session %s%s", plan->session, plan->mounted ? ", which is mounted already" : "");
	else
		log_note(&cmd_log, "a session for this run only, on %s", plan->base);
}

static int make_pipes(int pipes[RUN_PIPES][2])
{
	for (int i = 0; i < RUN_PIPES; i++) {
		if (pipe2(pipes[i], O_CLOEXEC) < 0)
			return log_errno(&cmd_log, -errno, "pipe");
	}
	return 0;
}

static int open_log(struct run_plan *plan)
{
	const char *path = plan->options->log_path;

	if (!path)
		return 0;
	plan->log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	return plan->log < 0 ? log_errno(&cmd_log, -errno, "%s: cannot hold the kernel's log", path) : 0;
}

static int run(struct run_plan *plan)
{
	static struct run_tail tail;
	struct run_result result = {0};
	struct run_keeper keeper;
	int pipes[RUN_PIPES][2];
	int status;

	if (open_log(plan) < 0 || make_pipes(pipes) < 0 || run_start_keeper(plan, pipes, &keeper) < 0)
		return RUN_FAILED;
	for (int i = 0; i < RUN_PIPES; i++)
		close(pipes[i][run_guest_end(i)]);
	run_watch(plan, &keeper, pipes, &tail, &result);
	status = run_report(plan, &result, &tail);
	free(result.why);
	free(result.kept);
	return status;
}

static int carry_out(struct run_plan *plan)
{
	if (plan->options->dry_run)
		return print_command_line(plan);
	if (plan->options->verbose)
		say_plan(plan);
	return run(plan);
}

static int parse_and_carry_out(int argc, char **argv)
{
	struct run_options options;
	struct run_plan plan;
	int r = run_parse(argc, argv, &options);

	if (r >= 0)
		return r == EXIT_DONE ? EXIT_DONE : RUN_FAILED;
	r = RUN_FAILED;
	if (run_make_plan(&options, &plan) == 0) {
		r = carry_out(&plan);
		run_free_plan(&plan);
	}
	run_free_options(&options);
	return r;
}

int main(int argc, char **argv)
{
	cmd_catch_bus("this command", RUN_FAILED);
	return cmd_end(parse_and_carry_out(argc, argv), RUN_FAILED);
}
