/*
 * cmd_json: escapes strings.
 * Invariant: what it prints is ASCII or UTF-8, whatever the bytes were.
 */
#include "cmd_json.h"

size_t cmd_utf8_length(const unsigned char *p)
{
	size_t n = p[0] >= 0xc2 && p[0] < 0xe0 ? 2 : (p[0] & 0xf0) == 0xe0 ? 3 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4 : 0;

	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

void cmd_json_string(FILE *out, const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	putc('"', out);
	while (*p) {
		size_t len = *p < 0x80 ? 1 : cmd_utf8_length(p);

		if (*p == '"' || *p == '\\')
			fprintf(out, "\\%c", *p);
		else if (*p < 0x20 || *p == 0x7f)
			fprintf(out, "\\u%04x", *p);
		else if (len == 0)
			fprintf(out, "\\udc%02x", *p);
		else
			fwrite(p, 1, len, out);
		p += len ? len : 1;
	}
	putc('"', out);
}
