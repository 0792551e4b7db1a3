/* run_options: the command line of `umlfs run`. */
#include "run.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum {
	FLAG_KERNEL = 256,
	FLAG_MEM,
	FLAG_APPEND,
	FLAG_INIT,
	FLAG_TIMEOUT,
	FLAG_SNAPSHOT,
	FLAG_KEEP,
	FLAG_ENV,
	FLAG_CHDIR,
	FLAG_USER,
	FLAG_SHARE,
	FLAG_FILE,
	FLAG_LOG,
	FLAG_JSON,
	FLAG_DRY_RUN,
	FLAG_RAID,
};

enum { MEM_MIN = 4 << 20 }; /* bytes; what a kernel needs it says itself */

#define WITH(text, flag)                                                                                               \
	{                                                                                                              \
		.name = (text), .has_arg = required_argument, .val = (flag)                                            \
	}
static const struct option names[] = {
	WITH("kernel", FLAG_KERNEL),
	WITH("mem", FLAG_MEM),
	WITH("append", FLAG_APPEND),
	WITH("init", FLAG_INIT),
	WITH("timeout", FLAG_TIMEOUT),
	WITH("snapshot", FLAG_SNAPSHOT),
	WITH("keep", FLAG_KEEP),
	WITH("env", FLAG_ENV),
	WITH("chdir", FLAG_CHDIR),
	WITH("user", FLAG_USER),
	WITH("share", FLAG_SHARE),
	WITH("file", FLAG_FILE),
	WITH("log", FLAG_LOG),
	WITH("json-status-fd", FLAG_JSON),
	{.name = "dry-run", .val = FLAG_DRY_RUN},
	{.name = "raid", .val = FLAG_RAID},
	{.name = "tty", .val = 't'},
	{.name = "verbose", .val = 'v'},
	{0},
};

static const struct command command = {
	.name = "run",
	.usage = "[OPTION...] BASE|SESSION [-- COMMAND ARG...]",
	.help = "boot a guest, run a command in it, and leave nothing behind",
	.words = true,
	.details = "COMMAND's input, output and status are this command's own. It reads standard\n"
		   "input to its end: in a loop that reads a list give it </dev/null. A terminal is\n"
		   "given to it with --tty only: without it `-- bash` ends at once. Without COMMAND:\n"
		   "a shell on the terminal.\n\n"
		   "With BASE everything happens in a session that is removed at the end. SESSION is\n"
		   "used as it stands, and at the end reset to the snapshot that it stands on by\n"
		   "then: NAME of --snapshot, or one that was taken meanwhile. So one with changes\n"
		   "that no snapshot holds is refused, but with --keep always and no --snapshot.\n\n"
		   "  --kernel FILE       the UML kernel; else $UMLFS_KERNEL, ./linux, ./vmlinux,\n"
		   "                      linux.uml or linux in PATH\n"
		   "  --mem SIZE          the guest's memory (256M)\n"
		   "  --append 'K=V ...'  more words for the kernel\n"
		   "  --init PATH         boot the root's own init; COMMAND is its arguments.\n"
		   "                      Status 0 when it powers the guest off\n"
		   "  --timeout TIME      end the guest after 60s, 5m, 1h: status 124\n"
		   "  --snapshot NAME     reset SESSION to this snapshot first\n"
		   "  --keep WHEN         never, on-failure, always: leave the session as it is then\n"
		   "                      (never), and print its path. One of BASE lies in a\n"
		   "                      directory umlfs-run-... in $TMPDIR or /tmp: remove it\n"
		   "                      with rm -rf\n"
		   "  --env NAME=VALUE    in COMMAND's environment\n"
		   "  --chdir DIR         where COMMAND starts (/)\n"
		   "  --user NAME         who runs COMMAND (root)\n"
		   "  --share HOST:GUEST[:ro|:rw]\n"
		   "                      a directory of the host in the guest, live; :ro:\n"
		   "                      read-only. Made where the root has none, a change that\n"
		   "                      `umlfs diff` shows\n"
		   "  --file HOST:GUEST   a copy of a file, for this run\n"
		   "  --log FILE          write the kernel's log there\n"
		   "  -t, --tty           give COMMAND the terminal, and Ctrl-C with it; then Ctrl-]\n"
		   "                      three times ends the guest\n"
		   "  --raid              let the kernel measure its RAID code, which btrfs and md\n"
		   "                      need for RAID 5 and 6 (a second)\n"
		   "  --dry-run           print the kernel's command line, do nothing\n"
		   "  --json-status-fd N  write what happened there, a JSON object a line\n"
		   "  -v, --verbose       say what is done\n\n"
		   "Exit status: COMMAND's own; 128+N when signal N ended it; 124 --timeout is over;\n"
		   "125 wrong usage, umlfs failed or the guest's kernel panicked; 126 COMMAND cannot\n"
		   "be run; 127 there is no such COMMAND.\n",
};

static int add(struct run_words *words, const char *word)
{
	const char **grown = reallocarray(words->at, words->n + 1, sizeof(*grown));

	if (!grown)
		return cmd_usage_error(&command, "%s: out of memory", word);
	words->at = grown;
	words->at[words->n++] = word;
	return 0;
}

static int take_time(const char *text, int64_t *ms_out)
{
	char *end;
	double value = strtod(text, &end);

	value *= *end == 'm' ? 60 : *end == 'h' ? 3600 : 1;
	if (*end && strchr("smh", *end))
		end++;
	if (!isdigit((unsigned char)*text) || *end || !(value > 0 && value < 1e9))
		return cmd_usage_error(&command, "--timeout %s: not a time such as 60s, 5m, 1h", text);
	*ms_out = (int64_t)(value * 1000) + 1;
	return 0;
}

static int take_mem(const char *text, const char **out)
{
	unsigned long long bytes;

	if (!cmd_read_number(text, &bytes))
		return cmd_usage_error(&command, "--mem %s: not a size such as 256M", text);
	if (bytes < MEM_MIN)
		return cmd_usage_error(&command, "--mem %s: no kernel boots in so little: give a size such as 256M",
		                       text);
	*out = text;
	return 0;
}

static int take_keep(const char *text, enum run_keep *out)
{
	static const char *const words[] = {"never", "on-failure", "always"};

	for (int i = 0; i < 3; i++) {
		if (strcmp(text, words[i]) == 0) {
			*out = (enum run_keep)i;
			return 0;
		}
	}
	return cmd_usage_error(&command, "--keep %s: is neither never nor on-failure nor always", text);
}

static int take_env(struct run_options *o, const char *text)
{
	if (*text == '=' || !strchr(text, '='))
		return cmd_usage_error(&command, "--env %s: is not NAME=VALUE", text);
	return add(&o->env, text);
}

/* True of an absolute path of `len` bytes in which nothing but slashes, "." and ".." stands. */
static bool is_root(const char *path, size_t len)
{
	for (size_t i = 0, part; i < len; i += part + 1) {
		const char *rest = path + i;

		part = strcspn(rest, "/");
		part = part < len - i ? part : len - i;
		if (part > 2 || strspn(rest, ".") < part)
			return false;
	}
	return true;
}

/* HOST:GUEST with an absolute GUEST, behind which a share has ":ro", ":rw" or nothing. */
static int take_pair(const char *flag, bool share, struct run_words *words, const char *text)
{
	const char *colon = strstr(text, ":/");
	const char *suffix = colon && share ? strchr(colon + 1, ':') : NULL;

	if (!colon || colon == text)
		return cmd_usage_error(&command, "%s %s: is not HOST:GUEST with an absolute path GUEST", flag, text);
	if (suffix && strcmp(suffix, ":ro") != 0 && strcmp(suffix, ":rw") != 0)
		return cmd_usage_error(&command, "%s %s: behind GUEST stands :ro, :rw or nothing", flag, text);
	if (is_root(colon + 1, suffix ? (size_t)(suffix - colon - 1) : strlen(colon + 1)))
		return cmd_usage_error(
			&command,
			"%s %s: GUEST is the root itself, which nothing may cover: give a path in it, such as /src",
			flag, text);
	return add(words, text);
}

static int take_fd(const char *text, int *out)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (!isdigit((unsigned char)*text) || *end || value > INT_MAX || fcntl((int)value, F_GETFD) < 0)
		return cmd_usage_error(&command, "--json-status-fd %s: is no open descriptor", text);
	*out = (int)value;
	return 0;
}

static int take_absolute(const char *flag, const char *text, const char **out)
{
	if (*text != '/')
		return cmd_usage_error(&command, "%s %s: is not an absolute path", flag, text);
	*out = text;
	return 0;
}

static int take(void *arg, int flag, const char *value)
{
	struct run_options *o = arg;

	switch (flag) {
	case FLAG_KERNEL:
		o->kernel = value;
		return 0;
	case FLAG_MEM:
		return take_mem(value, &o->mem);
	case FLAG_APPEND:
		o->append = value;
		return 0;
	case FLAG_INIT:
		return take_absolute("--init", value, &o->init);
	case FLAG_TIMEOUT:
		return take_time(value, &o->timeout_ms);
	case FLAG_SNAPSHOT:
		o->snapshot = value;
		return 0;
	case FLAG_KEEP:
		return take_keep(value, &o->keep);
	case FLAG_ENV:
		return take_env(o, value);
	case FLAG_CHDIR:
		return take_absolute("--chdir", value, &o->chdir);
	case FLAG_USER:
		o->user = value;
		return *value ? 0 : cmd_usage_error(&command, "--user: is empty");
	case FLAG_SHARE:
		return take_pair("--share", true, &o->shares, value);
	case FLAG_FILE:
		return take_pair("--file", false, &o->files, value);
	case FLAG_LOG:
		o->log_path = value;
		return 0;
	case FLAG_JSON:
		return take_fd(value, &o->json_fd);
	case FLAG_DRY_RUN:
		o->dry_run = true;
		return 0;
	case FLAG_RAID:
		o->raid = true;
		return 0;
	case 't':
		o->tty = true;
		return 0;
	default:
		o->verbose = true;
		return 0;
	}
}

void run_free_options(struct run_options *options)
{
	free(options->env.at);
	free(options->shares.at);
	free(options->files.at);
}

int run_parse(int argc, char **argv, struct run_options *out)
{
	struct run_options o = {.json_fd = -1, .mem = "256M"};
	struct cmd_flags flags = {.letters = "tv", .names = names, .arg = &o, .take = take};
	int first;
	int r;

	if (argc < 2)
		return cmd_usage_error(&command, "this is a part of umlfs: run `umlfs run`");
	r = cmd_parse(&command, argc - 1, argv + 1, &flags, 1, INT_MAX, &first);
	if (r < 0) {
		o.place = argv[1 + first];
		o.command = argv + 1 + first + 1;
		if (o.command[0] && !*o.command[0])
			r = cmd_usage_error(&command, "run: COMMAND is empty");
	}
	if (r < 0)
		*out = o;
	else
		run_free_options(&o);
	return r;
}
