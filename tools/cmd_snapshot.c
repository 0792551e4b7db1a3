/* cmd_snapshot: snapshot, reset and delete: the commands that change which layers a session has. */
#include "cmd.h"

#include <getopt.h>
#include <signal.h>
#include <stdlib.h>

#include "umlfs/control.h"
#include "umlfs/guest.h"

static int ask(const char *session, struct request request)
{
	char *text = NULL;
	int r = control_request(session, &request, &cmd_log, &text);

	free(text);
	return cmd_exit(r);
}

/* With the guest stopped meanwhile. A signal waits until it runs again. */
static int ask_at_rest(const char *umid, const char *session, struct request request)
{
	struct guest guest;
	sigset_t all, before;
	int status = EXIT_FAILED;

	if (guest_open(umid, &cmd_log, &guest) < 0)
		return EXIT_FAILED;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	if (guest_stop(&guest, &cmd_log) == 0) {
		status = ask(session, request);
		if (guest_go_on(&guest, &cmd_log) < 0)
			status = EXIT_FAILED;
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	guest_close(&guest);
	return status;
}

static int take_umid(void *arg, int flag, const char *value)
{
	*(const char **)arg = value;
	return 0;
}

static int run_snapshot(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "umid", .has_arg = required_argument, .val = 'U'}, {0}};
	const char *umid = NULL;
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &umid, .take = take_umid};
	struct request request = {.kind = REQUEST_SNAPSHOT};
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 2, 2, &first);

	if (r >= 0)
		return r;
	if (umid && !*umid)
		return cmd_usage_error(self, "--umid: is empty");
	request.name = argv[first + 1];
	return umid ? ask_at_rest(umid, argv[first], request) : ask(argv[first], request);
}

static int run_reset(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "force", .val = 'F'}, {0}};
	struct request request = {.kind = REQUEST_RESET, .may_force = true};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &request.force, .take = cmd_take_true};
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
	.usage = "[--umid ID] SESSION NAME",
	.help = "freeze the session's present state under NAME",
	.words = true,
	.details = "Works while the session is mounted and while it is not. NAME has at most 255\n"
		   "bytes, no '/' and no control character, and does not begin with '-' or '@'.\n\n"
		   "  --umid ID  pause a running guest first, so that what its programs write\n"
		   "             through shared mappings is in the snapshot, as of one moment. ID is\n"
		   "             the umid= of the guest, which `umlfs run -v` prints, or the path of\n"
		   "             its mconsole socket\n",
	.run = run_snapshot,
};

const struct command cmd_reset = {
	.name = "reset",
	.usage = "[--force] SESSION [NAME]",
	.help = "go back to a snapshot; the mount stays up",
	.words = true,
	.details = "Without NAME: to the snapshot that the session stands on. NAME @base: to the\n"
		   "untouched base. Refuses while a process has files open under the mountpoint,\n"
		   "or something is mounted there.\n\n"
		   "  --force  do it anyway; such files then answer ESTALE\n",
	.run = run_reset,
};

const struct command cmd_delete = {
	.name = "delete",
	.usage = "SESSION NAME",
	.help = "remove a snapshot; the session and other snapshots stay as they are",
	.words = true,
	.details = "Snapshots that were taken on it stay, with all that they have from it; `umlfs\n"
		   "list` then shows them below the one before. @base cannot be removed.\n",
	.run = run_delete,
};
