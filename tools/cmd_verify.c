/*
 * cmd_verify: compares an imported base's files with their checksums.
 * Invariant: exit status as that of check: 0 as imported, 4 damage, 8 could not look, 2 wrong usage.
 */
#include "cmd.h"

#include <errno.h>
#include <getopt.h>

#include "cmd_json.h"
#include "cmd_meter.h"
#include "umlfs/verify.h"

enum { EXIT_DAMAGED = 4, EXIT_NO_LOOK = 8 };

struct verify {
	struct cmd_meter meter;
	bool json;
	size_t n_printed;
};

static void print_found(void *arg, const struct finding *finding)
{
	struct verify *v = arg;

	cmd_meter_end(&v->meter);
	if (v->json) {
		printf("%s\n  {\"kind\": ", v->n_printed ? "," : "{\"schema\": 1, \"findings\": [");
		cmd_json_string(stdout, finding->kind);
		printf(", \"where\": ");
		cmd_json_string(stdout, finding->where);
		printf(", \"what\": ");
		cmd_json_string(stdout, finding->what);
		putchar('}');
	} else {
		cmd_print_quoted(stdout, finding->where);
		printf(": %s\n", finding->what);
	}
	v->n_printed++;
}

static int tell(void *arg, const struct progress *state)
{
	return cmd_meter_tell(&((struct verify *)arg)->meter, state);
}

static void print_end(const struct verify *v, const char *base, const struct verify_result *result, double took)
{
	unsigned long long rate = (unsigned long long)((double)result->bytes / (took > 0 ? took : 1));
	char size[32], speed[32];

	if (v->json) {
		printf("%s], \"path\": ", v->n_printed ? "\n" : "{\"schema\": 1, \"findings\": [");
		cmd_json_string(stdout, base);
		printf(", \"files\": %llu, \"bytes\": %llu, \"found\": %llu}\n", (unsigned long long)result->files,
		       (unsigned long long)result->bytes, (unsigned long long)result->n_found);
		return;
	}
	cmd_print_bytes(size, sizeof(size), result->bytes);
	cmd_print_bytes(speed, sizeof(speed), rate);
	cmd_print_quoted(stdout, base);
	printf(": %llu files, %s, in %.1f s (%s/s): ", (unsigned long long)result->files, size, took, speed);
	if (result->n_found == 0)
		puts("as imported");
	else
		printf("%llu not as imported\n", (unsigned long long)result->n_found);
}

static int run_verify(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "json", .val = 'J'}, {0}};
	struct verify v = {0};
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &v.json, .take = cmd_take_true};
	struct verify_options options = {.log = &cmd_log, .found = print_found, .progress = tell, .arg = &v};
	struct verify_result result;
	double took;
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 1, 1, &first);

	if (r >= 0)
		return r;
	options.base = argv[first];
	cmd_meter_start(&v.meter);
	r = verify_run(&options, &result);
	took = cmd_meter_end(&v.meter);
	if (r == -ECANCELED)
		log_error(&cmd_log, 0, "%s: interrupted: not all files were looked at", options.base);
	if (r < 0)
		return EXIT_NO_LOOK;
	print_end(&v, options.base, &result, took);
	return result.n_found ? EXIT_DAMAGED : EXIT_DONE;
}

const struct command cmd_verify = {
	.name = "verify",
	.usage = "[--json] BASE",
	.help = "compare every file of an imported base with its checksum",
	.details = "Reads the whole base. Prints a line for each file that cannot be read, or whose\n"
		   "type, size or bytes are not those that were imported; the last line sums up.\n"
		   "Owners, modes, links and attributes are in the index, which has a checksum of\n"
		   "its own; `umlfs check BASE` looks for files that are too many, and for times\n"
		   "that would keep a file from being read, without reading contents.\n\n"
		   "  --json  {schema, findings: [{kind, where, what}], path, files, bytes, found};\n"
		   "          kind is missing, type, size, content or unreadable; bytes are the\n"
		   "          sizes of the files added up\n\n"
		   "Exit status: 0 as imported, 4 something is not, 8 could not check (no such base,\n"
		   "its index is damaged, interrupted, ...), 2 wrong usage.\n",
	.failed = EXIT_NO_LOOK,
	.run = run_verify,
};
