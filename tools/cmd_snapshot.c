/* cmd_snapshot: snapshot, reset and delete: the commands that change which layers a session has. */
#include "cmd.h"

#include <getopt.h>
#include <stdlib.h>

#include "umlfs/control.h"

static int ask(const char *session, struct request request)
{
	char *text = NULL;
	int r = control_request(session, &request, &cmd_log, &text);

	free(text);
	return cmd_exit(r);
}

static int run_snapshot(const struct command *self, int argc, char **argv)
{
	int first;
	int r = cmd_parse(self, argc, argv, NULL, 2, 2, &first);

	if (r >= 0)
		return r;
	return ask(argv[first], (struct request){.kind = REQUEST_SNAPSHOT, .name = argv[first + 1]});
}

static int take_force(void *arg, int flag, const char *value)
{
	*(bool *)arg = true;
	return 0;
}

static int run_reset(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "force", .val = 'F'}, {0}};
	struct request request = {.kind = REQUEST_RESET};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &request.force, .take = take_force};
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 1, 2, &first);

	if (r >= 0)
		return r;
	request.name = argc - first > 1 ? argv[first + 1] : NULL;
	return ask(argv[first], request);
}

static int run_delete(const struct command *self, int argc, char **argv)
{
	int first;
	int r = cmd_parse(self, argc, argv, NULL, 2, 2, &first);

	if (r >= 0)
		return r;
	return ask(argv[first], (struct request){.kind = REQUEST_DELETE, .name = argv[first + 1]});
}

const struct command cmd_snapshot = {
	.name = "snapshot",
	.usage = "SESSION NAME",
	.help = "freeze the session's present state under NAME",
	.details = "Works while the session is mounted and while it is not. NAME has at most 255 bytes, no '/', and\n"
		   "does not begin with '-' or '@'.\n",
	.run = run_snapshot,
};

const struct command cmd_reset = {
	.name = "reset",
	.usage = "[--force] SESSION [NAME]",
	.help = "go back to a snapshot; the mount stays up",
	.details = "Without NAME: to the snapshot that the session stands on. NAME @base: to the untouched base.\n"
		   "Refuses while a process has files open under the mountpoint; with --force such files then\n"
		   "answer ESTALE.\n",
	.run = run_reset,
};

const struct command cmd_delete = {
	.name = "delete",
	.usage = "SESSION NAME",
	.help = "remove a snapshot; the session and other snapshots stay as they are",
	.run = run_delete,
};
