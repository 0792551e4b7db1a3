/* run_job: writes for umlfs-init what it shall do; init.h has the format. */
#include "run.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void put(FILE *job, const char *word, const char *value)
{
	fprintf(job, "%s=%s%c", word, value, '\0');
}

static void put_options(FILE *job, const struct run_options *o)
{
	if (o->init)
		put(job, "init", "");
	if (o->init)
		put(job, "arg", o->init);
	for (char **word = o->command; *word; word++)
		put(job, "arg", *word);
	for (size_t i = 0; i < o->env.n; i++)
		put(job, "env", o->env.at[i]);
	if (o->chdir)
		put(job, "chdir", o->chdir);
	if (o->user)
		put(job, "user", o->user);
}

static void put_terminal(FILE *job, const struct run_plan *plan)
{
	const char *type = getenv("TERM");

	fprintf(job, "terminal=%hu %hu%c", plan->rows, plan->cols, '\0');
	fprintf(job, "env=TERM=%s%c", type && *type ? type : "dumb", '\0');
}

int run_write_job(const struct run_plan *plan, char **text_out, size_t *len_out)
{
	const struct run_options *o = plan->options;
	FILE *job = open_memstream(text_out, len_out);

	if (!job)
		return -ENOMEM;
	if (plan->terminal)
		put_terminal(job, plan); /* before --env, which may say otherwise */
	if (plan->apart)
		put(job, "errors", "apart");
	if (plan->input_piped)
		put(job, "pipe", "input");
	if (plan->output_piped)
		put(job, "pipe", "output");
	if (plan->errors_piped)
		put(job, "pipe", "errors");
	put_options(job, o);
	for (size_t i = 0; i < o->shares.n; i++)
		fprintf(job, "share=%s:%.*s%c", plan->shares[i].read_only ? "ro" : "rw", plan->shares[i].guest_len,
		        plan->shares[i].guest, '\0');
	for (size_t i = 0; i < o->files.n; i++)
		put(job, "file", plan->files[i].guest);
	return fclose(job) == 0 ? 0 : -ENOMEM;
}
