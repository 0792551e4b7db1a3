/*
 * model_step: steps as lines of text.
 * Invariant: step_parse(step_text(step)) is step.
 * Called by the model test.
 */
#include <ctype.h>
#include <inttypes.h>

#include "model.h"

static const char *const kinds[STEP_KINDS - STEP_OPEN] = {
	"open", "close", "read", "write-open", "cut", "snapshot", "reset", "delete", "reopen", "crash",
};

static const char *kind_name(unsigned int kind)
{
	return kind < OP_KINDS ? op_name(kind) : kinds[kind - STEP_OPEN];
}

static char *put_name(char *at, const char *name)
{
	if (!*name)
		*at++ = '-';
	for (; *name; name++) {
		unsigned char byte = (unsigned char)*name;

		if (isgraph(byte) && byte != '%' && byte != '-')
			*at++ = (char)byte;
		else
			at += sprintf(at, "%%%02x", byte);
	}
	*at = '\0';
	return at;
}

const char *step_text(const struct step *step, char text[STEP_TEXT_MAX])
{
	char *at = text + sprintf(text, "%s %" PRIu64 " %" PRIu64 " %" PRIu64 " ", kind_name(step->kind), step->number,
	                          step->offset, step->len);

	at = put_name(at, step->a);
	*at++ = ' ';
	put_name(at, step->b);
	return text;
}

static void get_name(const char *text, char name[OP_PATH_MAX])
{
	size_t n = 0;

	for (; *text && strcmp(text, "-") != 0 && n < OP_PATH_MAX - 1; text++) {
		unsigned int byte = (unsigned char)*text;

		if (*text == '%' && sscanf(text + 1, "%2x", &byte) == 1)
			text += 2;
		name[n++] = (char)byte;
	}
	name[n] = '\0';
}

bool step_parse(const char *text, struct step *out)
{
	char kind[32], a[3 * OP_PATH_MAX] = "-", b[3 * OP_PATH_MAX] = "-";

	if (sscanf(text, "%31s %" SCNu64 " %" SCNu64 " %" SCNu64 " %3299s %3299s", kind, &out->number, &out->offset,
	           &out->len, a, b) != 6)
		return false;
	get_name(a, out->a);
	get_name(b, out->b);
	for (out->kind = 0; out->kind < STEP_KINDS; out->kind++) {
		if (strcmp(kind, kind_name(out->kind)) == 0)
			return true;
	}
	return false;
}

struct script script_read(const char *path)
{
	struct script script = {0};
	FILE *file = fopen(path, "r");
	size_t room = 0;
	char *line = NULL;

	if (!file) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(1);
	}
	while (getline(&line, &room, file) >= 0) {
		struct step *steps = reallocarray(script.steps, script.n + 1, sizeof(*steps));

		assert_non_null(steps);
		script.steps = steps;
		script.n += step_parse(line, &steps[script.n]);
	}
	free(line);
	fclose(file);
	return script;
}

void script_print(const struct script *script, FILE *to)
{
	char text[STEP_TEXT_MAX];

	for (size_t i = 0; i < script->n; i++)
		fprintf(to, "%s\n", step_text(&script->steps[i], text));
}

void script_free(struct script *script)
{
	free(script->steps);
	*script = (struct script){0};
}
