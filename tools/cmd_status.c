/*
 * cmd_status: shows what a session is doing, or which sessions are mounted.
 * Invariant: prints each line that the session answered; JSON has the same keys.
 */
#include "cmd.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "cmd_json.h"
#include "umlfs/control.h"
#include "umlfs/mounts.h"

static bool is_number(const char *text)
{
	return *text && strspn(text, "0123456789") == strlen(text);
}

static void decode_path(const char *key, char *value)
{
	if (strcmp(key, "base") == 0 || strcmp(key, "mountpoint") == 0)
		cmd_decode_path(value);
}

static void print_json_pair(const char *key, const char *value)
{
	cmd_json_string(stdout, key);
	printf(": ");
	if (strcmp(key, "confined") == 0)
		fputs(strcmp(value, "yes") == 0 ? "true" : "false", stdout);
	else if (is_number(value) && strcmp(key, "standing") != 0)
		fputs(value, stdout);
	else
		cmd_json_string(stdout, value);
}

/* Lines "word value"; the ones of `group` stand together in an object or a list. */
static void print_json(const char *session, char *text)
{
	char *requests = strdup(text);
	char *rest = text;
	const char *comma = "";
	char *line;

	printf("{\"schema\": 1, \"session\": ");
	cmd_json_string(stdout, session);
	while ((line = strsep(&rest, "\n")) && *line) {
		char *key = strsep(&line, " ");

		if (strcmp(key, "requests") == 0 || !line)
			continue;
		printf(", ");
		decode_path(key, line);
		print_json_pair(strcmp(key, "changes") == 0 ? "entries" : key, line);
	}
	printf(", \"requests\": {");
	rest = requests;
	while (rest && (line = strsep(&rest, "\n")) && *line) {
		char *key;

		if (strncmp(line, "requests ", 9) != 0)
			continue;
		line += 9;
		key = strsep(&line, " ");
		fputs(comma, stdout);
		print_json_pair(key, line);
		comma = ", ";
	}
	printf("}}\n");
	free(requests);
}

static const char *size_title(const char *key)
{
	if (strcmp(key, "disk") == 0)
		return "on disk";
	return strcmp(key, "bytes") == 0 ? "size" : "size limit";
}

static void print_text(const char *session, char *text)
{
	bool mounted = strstr(text, "\nmountpoint ");
	char *rest = text;
	char *line;

	printf("%-12s %s%s\n", "session", session, mounted ? "" : " (not mounted)");
	while ((line = strsep(&rest, "\n")) && *line) {
		char *key = strsep(&line, " ");
		char size[32];

		if (!line)
			continue;
		decode_path(key, line);
		if (strcmp(key, "requests") == 0) {
			char *kind = strsep(&line, " ");

			printf("%-12s %-16s %12s\n", "requests", kind, line);
		} else if (strcmp(key, "bytes") == 0 || strcmp(key, "disk") == 0 || strcmp(key, "size_limit") == 0) {
			cmd_print_bytes(size, sizeof(size), strtoull(line, NULL, 10));
			printf("%-12s %s\n", size_title(key), size);
		} else {
			printf("%-12s %s\n", strcmp(key, "changes") == 0 ? "entries" : key, line);
		}
	}
}

struct mounted {
	bool json;
	int n;
};

static int print_mounted(void *arg, const struct mount_info *mount)
{
	struct mounted *m = arg;
	bool dead = mounts_is_dead(mount);

	if (!m->json) {
		printf("%s on %s%s\n", mount->session, mount->mountpoint,
		       dead ? ": dead: `umlfs clean` takes it away" : "");
		return 0;
	}
	printf("%s\n  {\"session\": ", m->n++ ? "," : "");
	cmd_json_string(stdout, mount->session);
	printf(", \"mountpoint\": ");
	cmd_json_string(stdout, mount->mountpoint);
	printf(", \"dead\": %s}", dead ? "true" : "false");
	return 0;
}

static int print_all(bool json)
{
	struct mounted m = {.json = json};
	int r;

	if (json)
		printf("{\"schema\": 1, \"mounts\": [");
	r = mounts_each(print_mounted, &m);
	if (json)
		printf("%s]}\n", m.n ? "\n" : "");
	return r < 0 ? cmd_exit(log_errno(&cmd_log, r, "the mount table")) : EXIT_DONE;
}

static int run_status(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "json", .val = 'J'}, {0}};
	struct request request = {.kind = REQUEST_STATUS};
	bool json = false;
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &json, .take = cmd_take_true};
	char *text = NULL;
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 0, 1, &first);

	if (r >= 0)
		return r;
	if (first == argc)
		return print_all(json);
	r = control_request(argv[first], &request, &cmd_log, &text);
	if (r < 0)
		return EXIT_FAILED;
	if (json)
		print_json(argv[first], text);
	else
		print_text(argv[first], text);
	free(text);
	return EXIT_DONE;
}

const struct command cmd_status = {
	.name = "status",
	.usage = "[--json] [SESSION]",
	.help = "what a session is doing; without one: which are mounted",
	.details = "Shows base, mountpoint, pid, the snapshot that the session stands on, what\n"
		   "changed since, space used, descriptors kept open, and the FUSE requests that\n"
		   "came, by kind.\n\n"
		   "  --json  {schema, session, base, standing, entries, bytes, disk, files,\n"
		   "          mountpoint, pid, profile, size_limit, inodes_limit, confined, problem,\n"
		   "          requests: {kind: number}}; without SESSION {schema, mounts: [{session,\n"
		   "          mountpoint, dead}]}\n",
	.run = run_status,
};
