/*
 * cmd_diff: shows what changed between two states of a session.
 * Invariant: exit status as of diff(1): 0 the same, 1 different, 2 trouble.
 */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd_color.h"
#include "cmd_glob.h"
#include "cmd_json.h"
#include "umlfs/diff.h"

enum { EXIT_SAME = 0, EXIT_DIFFERENT = 1, EXIT_TROUBLE = 2 };

struct diff {
	struct diff_options options;
	bool json, quiet, asserts, colored;
	char **globs; /* what may change */
	size_t n_globs, n_shown;
};

static const struct word {
	enum diff_what what;
	const char *word;
} words[] = {
	{DIFF_TYPE, "type"},       {DIFF_MODE, "mode"},   {DIFF_OWNER, "owner"},   {DIFF_GROUP, "group"},
	{DIFF_CONTENT, "content"}, {DIFF_SIZE, "size"},   {DIFF_TARGET, "target"}, {DIFF_DEVICE, "device"},
	{DIFF_XATTRS, "xattrs"},   {DIFF_LINKS, "links"}, {DIFF_MTIME, "mtime"},
};

static const char json_start[] = "{\"schema\": 1, \"changes\": [";

static const char *type_of(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	default:
		return "socket";
	}
}

static unsigned int device_major(const struct diff_file *f)
{
	return (unsigned int)(f->rdev >> 32);
}

static unsigned int device_minor(const struct diff_file *f)
{
	return (unsigned int)(f->rdev & UINT32_MAX);
}

static const struct diff_xattr *find_xattr(const struct diff_file *f, const char *name)
{
	for (size_t i = 0; i < f->n_xattrs; i++) {
		if (strcmp(f->xattrs[i].name, name) == 0)
			return &f->xattrs[i];
	}
	return NULL;
}

/* Attributes that came (+), went (-) or have another value (=). */
static void print_xattrs(const struct diff_file *from, const struct diff_file *to)
{
	fputs("xattrs", stdout);
	for (size_t i = 0; i < from->n_xattrs; i++) {
		const struct diff_xattr *old = &from->xattrs[i], *now = find_xattr(to, old->name);

		if (now && now->len == old->len && memcmp(now->value, old->value, old->len) == 0)
			continue;
		fputs(now ? " =" : " -", stdout);
		cmd_print_quoted(stdout, old->name);
	}
	for (size_t i = 0; i < to->n_xattrs; i++) {
		if (find_xattr(from, to->xattrs[i].name))
			continue;
		fputs(" +", stdout);
		cmd_print_quoted(stdout, to->xattrs[i].name);
	}
}

static void print_what(const struct word *w, const struct diff_file *from, const struct diff_file *to)
{
	switch (w->what) {
	case DIFF_TYPE:
		printf("type %s -> %s", type_of(from->mode), type_of(to->mode));
		break;
	case DIFF_MODE:
		printf("mode %04o -> %04o", from->mode & 07777, to->mode & 07777);
		break;
	case DIFF_OWNER:
		printf("owner %u -> %u", from->uid, to->uid);
		break;
	case DIFF_GROUP:
		printf("group %u -> %u", from->gid, to->gid);
		break;
	case DIFF_SIZE:
		printf("size %" PRIu64 " -> %" PRIu64, from->size, to->size);
		break;
	case DIFF_TARGET:
		fputs("target ", stdout);
		cmd_print_quoted(stdout, from->target);
		fputs(" -> ", stdout);
		cmd_print_quoted(stdout, to->target);
		break;
	case DIFF_DEVICE:
		printf("device %u:%u -> %u:%u", device_major(from), device_minor(from), device_major(to),
		       device_minor(to));
		break;
	case DIFF_XATTRS:
		print_xattrs(from, to);
		break;
	default:
		fputs(w->word, stdout);
		break;
	}
}

static enum color color_of(enum diff_kind kind)
{
	switch (kind) {
	case DIFF_ADDED:
		return COLOR_GREEN;
	case DIFF_DELETED:
		return COLOR_RED;
	case DIFF_RENAMED:
		return COLOR_CYAN;
	default:
		return COLOR_YELLOW;
	}
}

static void print_change(const struct diff_change *c, bool colored)
{
	const char *between = ": ";

	printf("%s%c%s ", cmd_color_start(colored, color_of(c->kind)), c->kind, cmd_color_end(colored));
	if (c->kind == DIFF_RENAMED) {
		cmd_print_quoted(stdout, c->old_path);
		fputs(" -> ", stdout);
	}
	cmd_print_quoted(stdout, c->path);
	if (c->link_to) {
		fputs(": link to ", stdout);
		cmd_print_quoted(stdout, c->link_to);
	}
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!(c->what & words[i].what))
			continue;
		fputs(between, stdout);
		print_what(&words[i], c->from, c->to);
		between = ", ";
	}
	putchar('\n');
}

static void print_json_xattrs(const struct diff_file *f)
{
	fputs(", \"xattrs\": {", stdout);
	for (size_t i = 0; i < f->n_xattrs; i++) {
		const unsigned char *value = f->xattrs[i].value;

		fputs(i ? ", " : "", stdout);
		cmd_json_string(stdout, f->xattrs[i].name);
		fputs(": \"", stdout);
		for (size_t at = 0; at < f->xattrs[i].len; at++)
			printf("%02x", value[at]);
		putchar('"');
	}
	putchar('}');
}

/* Seconds with nine decimals, which no floating-point number holds. */
static void print_json_time(struct timespec t)
{
	bool below = t.tv_sec < 0 && t.tv_nsec > 0;

	printf(", \"mtime\": \"%s%lld.%09ld\"", below && t.tv_sec == -1 ? "-" : "", (long long)t.tv_sec + below,
	       below ? 1000000000 - t.tv_nsec : t.tv_nsec);
}

static void print_json_file(const char *key, const struct diff_file *f)
{
	printf(", \"%s\": ", key);
	if (!f) {
		fputs("null", stdout);
		return;
	}
	printf("{\"type\": \"%s\", \"mode\": \"%04o\", \"uid\": %u, \"gid\": %u, \"nlink\": %u, \"size\": %" PRIu64
	       ", \"ino\": %" PRIu64,
	       type_of(f->mode), f->mode & 07777, f->uid, f->gid, f->nlink, f->size, f->ino);
	print_json_time(f->mtime);
	if (f->target) {
		fputs(", \"target\": ", stdout);
		cmd_json_string(stdout, f->target);
	}
	if (S_ISCHR(f->mode) || S_ISBLK(f->mode))
		printf(", \"device\": [%u, %u]", device_major(f), device_minor(f));
	print_json_xattrs(f);
	putchar('}');
}

static void print_json_path(const char *key, const char *path)
{
	printf(", \"%s\": ", key);
	if (path)
		cmd_json_string(stdout, path);
	else
		fputs("null", stdout);
}

static void print_json_change(const struct diff_change *c, bool first)
{
	const char *between = "";

	printf("%s\n  {\"change\": \"%c\"", first ? json_start : ",", c->kind);
	print_json_path("path", c->path);
	print_json_path("old_path", c->old_path);
	print_json_path("link_to", c->link_to);
	fputs(", \"what\": [", stdout);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!(c->what & words[i].what))
			continue;
		printf("%s\"%s\"", between, words[i].word);
		between = ", ";
	}
	putchar(']');
	print_json_file("from", c->from);
	print_json_file("to", c->to);
	putchar('}');
}

static bool allowed(const struct diff *d, const char *path)
{
	for (size_t i = 0; i < d->n_globs; i++) {
		if (cmd_glob(d->globs[i], path))
			return true;
	}
	return false;
}

static int on_change(void *arg, const struct diff_change *c)
{
	struct diff *d = arg;

	if (d->asserts && allowed(d, c->path) && (c->kind != DIFF_RENAMED || allowed(d, c->old_path)))
		return 0;
	if (!d->quiet && d->json)
		print_json_change(c, d->n_shown == 0);
	else if (!d->quiet)
		print_change(c, d->colored);
	d->n_shown++;
	return 0;
}

/* The words of one value of --assert; the value is cut up. */
static int add_globs(struct diff *d, char *value)
{
	char *rest = NULL;

	for (char *glob = strtok_r(value, " \t\n", &rest); glob; glob = strtok_r(NULL, " \t\n", &rest)) {
		char **grown = reallocarray(d->globs, d->n_globs + 1, sizeof(*grown));

		if (!grown) {
			log_error(&cmd_log, -ENOMEM, "--assert: no memory");
			return EXIT_TROUBLE;
		}
		d->globs = grown;
		d->globs[d->n_globs++] = glob;
	}
	return 0;
}

static int take_flag(void *arg, int flag, const char *value)
{
	struct diff *d = arg;

	switch (flag) {
	case 'J':
		d->json = true;
		break;
	case 'T':
		d->options.times = true;
		break;
	case 'q':
		d->quiet = true;
		break;
	case 'C':
		if (cmd_color_choose(value, stdout, &d->colored))
			break;
		return cmd_usage_error(&cmd_diff, "--color %s: is neither auto nor always nor never", value);
	default:
		d->asserts = true;
		return add_globs(d, (char *)(uintptr_t)value); /* of argv, which is ours */
	}
	return 0;
}

static int run_diff(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "json", .val = 'J'},
	                                      {.name = "times", .val = 'T'},
	                                      {.name = "quiet", .val = 'q'},
	                                      {.name = "color", .has_arg = required_argument, .val = 'C'},
	                                      {.name = "assert", .has_arg = required_argument, .val = 'A'},
	                                      {0}};
	struct diff d = {.options = {.log = &cmd_log, .change = on_change, .arg = &d},
	                 .colored = cmd_color_wanted(stdout)};
	struct cmd_flags flags = {.letters = "q", .names = names, .arg = &d, .take = take_flag};
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 1, 3, &first);

	if (r < 0) {
		d.options.session = argv[first];
		d.options.from = argc > first + 1 ? argv[first + 1] : NULL;
		d.options.to = argc > first + 2 ? argv[first + 2] : NULL;
		r = diff_run(&d.options) < 0 ? EXIT_TROUBLE : d.n_shown ? EXIT_DIFFERENT : EXIT_SAME;
		if (d.json && !d.quiet && r != EXIT_TROUBLE)
			printf("%s], \"count\": %zu}\n", d.n_shown ? "\n" : json_start, d.n_shown);
	}
	free(d.globs);
	return r;
}

const struct command cmd_diff = {
	.name = "diff",
	.usage = "[--times] [--quiet] [--color WHEN] [--json] [--assert GLOB]... SESSION [FROM [TO]]",
	.help = "show what changed between two states of a session",
	.words = true,
	.details = "FROM and TO are snapshots, or @base. Without TO: what the session is now;\n"
		   "without FROM: the snapshot that it stands on, so that the changes are those that\n"
		   "`umlfs reset` would undo.\n\n"
		   "A line for each path, sorted: A added, M modified and how, D deleted, R renamed\n"
		   "(the same inode under another name: of a renamed directory one line). What was\n"
		   "written again as it was is no change, nor is a file that another of the same\n"
		   "bytes and attributes has replaced; a directory is not modified by what is made\n"
		   "in it. Names with spaces, controls or bytes that are no UTF-8 stand in quotation\n"
		   "marks with C's escapes. Works while the session is mounted, without stopping it:\n"
		   "its present state is then sealed, as by a snapshot without a name.\n\n"
		   "  --times        a time of modification alone is a change too\n"
		   "  -q, --quiet    only the exit status tells\n"
		   "  --color WHEN   auto, always, never: colour the letters; auto (usual): on\n"
		   "                 terminals, unless NO_COLOR is set\n"
		   "  --assert GLOB  show, and count as different, only what none of the patterns\n"
		   "                 covers. Each has an --assert of its own, or several stand in\n"
		   "                 one: --assert '/root/** /etc/**'. '*' and '?' match within a\n"
		   "                 name, '/DIR/**' is DIR and all below it, one without '/' at the\n"
		   "                 start matches at any depth. A rename needs both of its names\n"
		   "                 covered\n"
		   "  --json         {schema, changes: [{change, path, old_path, link_to, what,\n"
		   "                 from, to}], count}; change is A, M, D or R; what has type,\n"
		   "                 mode, owner, group, content, size, target, device, xattrs,\n"
		   "                 links, mtime; from and to are null or {type, mode (octal), uid,\n"
		   "                 gid, nlink, size, mtime (seconds), ino, target, device (major,\n"
		   "                 minor), xattrs (values in hexadecimal)}\n\n"
		   "Exit status, as of diff(1): 0 the same (with --assert: nothing else changed), 1\n"
		   "different, 2 trouble or wrong usage.\n",
	.failed = EXIT_TROUBLE,
	.run = run_diff,
};
