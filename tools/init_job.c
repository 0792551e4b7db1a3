/* init_job: reads what the guest shall do. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The whole of /job with a NUL behind it. */
static char *read_whole(size_t *len_out)
{
	int fd = open("/job", O_RDONLY | O_CLOEXEC);
	struct stat st;
	char *text;

	if (fd < 0 || fstat(fd, &st) < 0)
		return NULL;
	text = calloc(1, (size_t)st.st_size + 1);
	if (text && read(fd, text, (size_t)st.st_size) != st.st_size)
		text = NULL;
	close(fd);
	*len_out = (size_t)st.st_size;
	return text;
}

/* The value when the string is this word's. */
static char *value_of(char *string, const char *word)
{
	size_t len = strlen(word);

	return strncmp(string, word, len) == 0 && string[len] == '=' ? string + len + 1 : NULL;
}

static void take_pipe(struct init_job *job, const char *which)
{
	job->input_piped |= strcmp(which, "input") == 0;
	job->output_piped |= strcmp(which, "output") == 0;
	job->errors_piped |= strcmp(which, "errors") == 0;
}

static void take(struct init_job *job, char *string)
{
	char *value;

	if ((value = value_of(string, "arg")))
		job->args[job->n_args++] = value;
	else if ((value = value_of(string, "env")))
		job->env[job->n_env++] = value;
	else if ((value = value_of(string, "share")))
		job->shares[job->n_shares++] = value;
	else if ((value = value_of(string, "file")))
		job->files[job->n_files++] = value;
	else if ((value = value_of(string, "chdir")))
		job->chdir = value;
	else if ((value = value_of(string, "user")))
		job->user = value;
	else if (value_of(string, "errors"))
		job->apart = true;
	else if ((value = value_of(string, "pipe")))
		take_pipe(job, value);
	else if (value_of(string, "init"))
		job->init = true;
	else if ((value = value_of(string, "terminal")))
		job->terminal = sscanf(value, "%hu %hu", &job->rows, &job->cols) == 2;
}

int init_read_job(struct init_job *job_out)
{
	struct init_job job = {0};
	size_t len, most = 1;
	char *text = read_whole(&len);

	if (!text)
		return -EIO;
	for (size_t i = 0; i < len; i++)
		most += text[i] == '\0';
	job.args = calloc(4 * most, sizeof(char *));
	if (!job.args)
		return -ENOMEM;
	job.env = job.args + most;
	job.shares = job.env + most;
	job.files = job.shares + most;
	for (char *at = text; at < text + len; at += strlen(at) + 1)
		take(&job, at);
	*job_out = job;
	return 0;
}
