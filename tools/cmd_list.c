/*
 * cmd_list: shows a session's snapshots as a tree.
 * Invariant: every snapshot is shown once, below the one that it stands on.
 */
#include "cmd.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cmd_color.h"
#include "cmd_json.h"
#include "umlfs/control.h"

struct snapshot {
	uint32_t layer, parent;
	int64_t time;
	uint64_t changes, bytes;
	int current;
	const char *name; /* borrowed from the answer's text */
};

struct list {
	struct snapshot *snapshots;
	size_t n;
	uint32_t standing;       /* layer of the snapshot that the session stands on, 0: the base */
	uint64_t changes, bytes; /* of the session since */
};

static int read_line(struct list *list, char *line)
{
	struct snapshot s;
	int at = 0;

	if (sscanf(line, "session %" SCNu32 " %" SCNu64 " %" SCNu64, &list->standing, &list->changes, &list->bytes) ==
	    3)
		return 0;
	if (sscanf(line, "snapshot %" SCNu32 " %" SCNu32 " %" SCNd64 " %" SCNu64 " %" SCNu64 " %d%n", &s.layer,
	           &s.parent, &s.time, &s.changes, &s.bytes, &s.current, &at) == 6 &&
	    at > 0 && line[at] == ' ') {
		struct snapshot *grown = reallocarray(list->snapshots, list->n + 1, sizeof(*grown));

		if (!grown)
			return -1;
		s.name = line + at + 1; /* behind one space: names may begin with more */
		list->snapshots = grown;
		list->snapshots[list->n++] = s;
	}
	return 0;
}

static void print_age(int64_t seconds, char *text, size_t size)
{
	if (seconds < 60)
		snprintf(text, size, "%" PRId64 " s", seconds < 0 ? 0 : seconds);
	else if (seconds < 3600)
		snprintf(text, size, "%" PRId64 " min", seconds / 60);
	else if (seconds < 2 * 86400L)
		snprintf(text, size, "%" PRId64 " h", seconds / 3600);
	else
		snprintf(text, size, "%" PRId64 " days", seconds / 86400);
}

/* The name up to its column's end; where the session stands it is coloured. */
static void print_name(bool stands, int depth, const char *name, int width)
{
	bool colored = stands && cmd_color_wanted(stdout);

	printf("%s%s %*s%-*s%s", cmd_color_start(colored, COLOR_GREEN), stands ? "*" : " ", 2 * depth, "", width, name,
	       cmd_color_end(colored));
}

static void print_row(const struct snapshot *s, int depth, const char *age)
{
	char size[32];

	cmd_print_bytes(size, sizeof(size), s->bytes);
	print_name(s->current, depth, s->name, 36 - 2 * depth);
	printf(" %8s %9" PRIu64 " %11s\n", age, s->changes, size);
}

static void print_below(const struct list *list, uint32_t parent, int depth)
{
	for (size_t i = 0; i < list->n; i++) {
		const struct snapshot *s = &list->snapshots[i];
		char age[32];

		if (s->parent != parent)
			continue;
		print_age((int64_t)time(NULL) - s->time, age, sizeof(age));
		print_row(s, depth, age);
		print_below(list, s->layer, depth + 1);
	}
}

static void print_table(const struct list *list)
{
	char size[32];

	cmd_print_bytes(size, sizeof(size), list->bytes);
	printf("  %-36s %8s %9s %11s\n", "SNAPSHOT", "AGE", "ENTRIES", "SIZE");
	print_name(list->standing == 0, 0, "@base", 0);
	putchar('\n');
	print_below(list, 0, 1);
	printf("since *: %" PRIu64 " %s, %s\n", list->changes, list->changes == 1 ? "entry" : "entries", size);
}

static const char *name_of(const struct list *list, uint32_t layer)
{
	for (size_t i = 0; i < list->n; i++) {
		if (list->snapshots[i].layer == layer)
			return list->snapshots[i].name;
	}
	return "@base";
}

static void print_json(const struct list *list)
{
	printf("{\"schema\": 1, \"standing\": ");
	cmd_json_string(stdout, name_of(list, list->standing));
	printf(", \"entries\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"snapshots\": [", list->changes, list->bytes);
	for (size_t i = 0; i < list->n; i++) {
		const struct snapshot *s = &list->snapshots[i];

		printf("%s\n  {\"name\": ", i ? "," : "");
		cmd_json_string(stdout, s->name);
		printf(", \"parent\": ");
		cmd_json_string(stdout, name_of(list, s->parent));
		printf(", \"time\": %" PRId64 ", \"entries\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"current\": %s}",
		       s->time, s->changes, s->bytes, s->current ? "true" : "false");
	}
	printf("%s]}\n", list->n ? "\n" : "");
}

static int run_list(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "json", .val = 'J'}, {0}};
	struct request request = {.kind = REQUEST_LIST};
	struct list list = {0};
	char *text = NULL;
	char *rest, *line;
	bool json = false;
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &json, .take = cmd_take_true};
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 1, 1, &first);

	if (r >= 0)
		return r;
	r = control_request(argv[first], &request, &cmd_log, &text);
	if (r < 0)
		return EXIT_FAILED;
	rest = text;
	while (r == 0 && (line = strsep(&rest, "\n")))
		r = read_line(&list, line);
	if (r == 0 && json)
		print_json(&list);
	else if (r == 0)
		print_table(&list);
	free(list.snapshots);
	free(text);
	return cmd_exit(r);
}

const struct command cmd_list = {
	.name = "list",
	.usage = "[--json] SESSION",
	.help = "the session's snapshots as a tree; * marks where it stands",
	.details = "ENTRIES are the inodes and names that a snapshot changes against the one it\n"
		   "stands on, SIZE is what the files written in it hold.\n\n"
		   "  --json  {schema, standing, entries, bytes, snapshots: [{name, parent, time,\n"
		   "          entries, bytes, current}]}; time in seconds since the epoch\n",
	.run = run_list,
};
