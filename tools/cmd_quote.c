/*
 * cmd_quote: file names for people's eyes and for scripts that read lines.
 * Invariant: what it prints is one word on one line, from which the bytes can be had back.
 */
#include <stddef.h>

#include "cmd.h"
#include "cmd_json.h"

/* How many bytes from p on can be shown as they are; 0: none. */
static size_t plain(const unsigned char *p)
{
	size_t n = cmd_utf8_length(p);

	if (*p < 0x80)
		return *p > ' ' && *p != 0x7f && *p != '"' && *p != '\\';
	return n == 2 && p[0] == 0xc2 && p[1] < 0xa0 ? 0 : n; /* control characters of ISO 8859 */
}

static void print_byte(FILE *out, unsigned char byte)
{
	switch (byte) {
	case '\n':
		fputs("\\n", out);
		break;
	case '\t':
		fputs("\\t", out);
		break;
	case '"':
	case '\\':
		fprintf(out, "\\%c", byte);
		break;
	default:
		fprintf(out, byte == ' ' ? " " : "\\%03o", byte);
		break;
	}
}

void cmd_print_quoted(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;
	size_t n;

	while ((n = plain(p)) > 0)
		p += n;
	if (*p == '\0' && *text) {
		fputs(text, out);
		return;
	}
	putc('"', out);
	for (p = (const unsigned char *)text; *p; p += n ? n : 1) {
		n = plain(p);
		if (n)
			fwrite(p, 1, n, out);
		else
			print_byte(out, *p);
	}
	putc('"', out);
}
