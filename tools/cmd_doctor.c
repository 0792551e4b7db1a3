/*
 * cmd_doctor: what this machine lacks for umlfs and UML, and how to fix it.
 * Invariant: 0 only when a guest has booted.
 */
#include "doctor.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>

#include "cmd.h"
#include "cmd_color.h"
#include "cmd_json.h"

static const struct {
	const char *name;
	doctor_look *look;
} facts[] = {
	{"/dev/fuse", doctor_fuse},
	{"fusermount3", doctor_fusermount},
	{"guest memory", doctor_memory},
	{"ptrace", doctor_ptrace},
	{"open files", doctor_descriptors},
	{"protected_hardlinks", doctor_hardlinks},
	{"confinement", doctor_confinement},
	{"mounts", doctor_mounts},
	{"kernel", doctor_kernel_version},
	{"xstate", doctor_xstate},
	{"guest", doctor_guest},
};

enum { N_FACTS = sizeof(facts) / sizeof(facts[0]) };

static const char *const verdicts[] = {[DOCTOR_OK] = "ok", [DOCTOR_LIMIT] = "limit", [DOCTOR_FAIL] = "fail"};

void doctor_say(struct doctor_fact *fact, enum doctor_verdict verdict, const char *mend, const char *format, ...)
{
	va_list args;

	fact->verdict = verdict;
	snprintf(fact->mend, sizeof(fact->mend), "%s", mend ? mend : "");
	va_start(args, format);
	vsnprintf(fact->text, sizeof(fact->text), format, args);
	va_end(args);
}

static void print_text(const struct doctor_fact *fact)
{
	static const enum color colors[] = {
		[DOCTOR_OK] = COLOR_GREEN, [DOCTOR_LIMIT] = COLOR_YELLOW, [DOCTOR_FAIL] = COLOR_RED};
	bool colored = cmd_color_wanted(stdout);

	printf("%s%-5s%s  %-19s  %s\n", cmd_color_start(colored, colors[fact->verdict]), verdicts[fact->verdict],
	       cmd_color_end(colored), fact->name, fact->text);
	if (*fact->mend)
		printf("%-5s  %-19s  -> %s\n", "", "", fact->mend);
	fflush(stdout); /* the guest takes a second */
}

static void print_json(const struct doctor_fact *fact, const char *comma)
{
	printf("%s\n  {\"name\": ", comma);
	cmd_json_string(stdout, fact->name);
	printf(", \"verdict\": \"%s\", \"text\": ", verdicts[fact->verdict]);
	cmd_json_string(stdout, fact->text);
	printf(", \"mend\": ");
	if (*fact->mend)
		cmd_json_string(stdout, fact->mend);
	else
		fputs("null", stdout);
	printf("}");
}

static int run_doctor(const struct command *self, int argc, char **argv)
{
	static const struct option names[] = {{.name = "json", .val = 'J'}, {0}};
	struct doctor_kernel kernel = {0};
	bool json = false, boots = true;
	struct cmd_flags flags = {.letters = "", .names = names, .arg = &json, .take = cmd_take_true};
	int first;
	int r = cmd_parse(self, argc, argv, &flags, 0, 1, &first);

	if (r >= 0)
		return r;
	kernel.name = first < argc ? argv[first] : NULL;
	if (uml_find(kernel.name, NULL, &kernel.path, &kernel.version) < 0)
		kernel.path = NULL;
	if (json)
		printf("{\"schema\": 1, \"facts\": [");
	for (int i = 0; i < N_FACTS; i++) {
		struct doctor_fact fact = {.name = facts[i].name};

		if (boots || facts[i].look != doctor_guest)
			facts[i].look(&kernel, &fact);
		else
			doctor_say(&fact, DOCTOR_FAIL, NULL, "not tried: something above fails");
		boots = boots && fact.verdict != DOCTOR_FAIL;
		if (json)
			print_json(&fact, i ? "," : "");
		else
			print_text(&fact);
	}
	if (json)
		printf("], \"boots\": %s}\n", boots ? "true" : "false");
	free(kernel.path);
	return boots ? EXIT_DONE : EXIT_FAILED;
}

const struct command cmd_doctor = {
	.name = "doctor",
	.usage = "[--json] [KERNEL]",
	.help = "what this machine lacks to boot guests, and how to fix it",
	.details = "Looks at /dev/fuse, fusermount3, the place for guests' memory, ptrace, limits,\n"
		   "the host's settings, Landlock (which confines a mount's daemon), mounts without\n"
		   "a daemon, and the UML kernel: KERNEL, else the one that `umlfs run` finds. The\n"
		   "line xstate is about kernels older than 6.13, which may panic on processors with\n"
		   "AVX-512 or AMX: it goes by the version and the processor, and tries nothing.\n"
		   "When nothing fails, a guest is booted. Each line begins with ok, limit (guests\n"
		   "boot, but something is missing or slow) or fail; how to fix it stands below.\n\n"
		   "  --json  {schema, facts: [{name, verdict, text, mend}], boots}\n\n"
		   "Exit status: 0 a guest boots, 1 none does, 2 wrong usage.\n",
	.run = run_doctor,
};
