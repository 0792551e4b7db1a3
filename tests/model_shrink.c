/*
 * model_shrink: makes a script that fails short.
 * Invariant: what it leaves has been seen failing.
 * Called by unit_model.c.
 */
#include <time.h>

#include "model.h"

static time_t seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

/* Replaces the script when it fails without n steps from `from` on. */
static bool fails_without(const struct model_options *options, struct script *script, size_t from, size_t n,
                          char **said)
{
	struct script part = {calloc(script->n, sizeof(struct step)), script->n - n}, done = {0};
	char *part_said = NULL;
	bool fails;

	assert_non_null(part.steps);
	memcpy(part.steps, script->steps, from * sizeof(struct step));
	memcpy(part.steps + from, script->steps + from + n, (part.n - from) * sizeof(struct step));
	fails = !model_run(options, 0, 0, &part, &done, &part_said);
	script_free(&part);
	if (!fails || done.n == 0) {
		script_free(&done);
		free(part_said);
		return false;
	}
	script_free(script);
	*script = done;
	free(*said);
	*said = part_said;
	return true;
}

void model_shrink(const struct model_options *options, struct script *script, unsigned int seconds, char **said)
{
	time_t end = seconds_now() + (time_t)seconds;
	size_t before;

	do {
		before = script->n;
		for (size_t n = (before + 1) / 2; n > 0; n /= 2) {
			size_t at = script->n; /* from the end: what failed last needs little of what was first */

			while (at > 0 && script->n > 1) {
				size_t from = at > n ? at - n : 0;

				if (seconds_now() > end)
					return;
				if (at - from < script->n)
					fails_without(options, script, from, at - from, said);
				at = from < script->n ? from : script->n;
			}
		}
	} while (script->n < before);
}
