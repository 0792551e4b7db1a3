/* run_tail: keeps the end of a text. */
#include "run.h"

#include <string.h>

enum { SHOWN_LINES = 25 };

static const char panic[] = "Kernel panic";

static bool contains(const char *bytes, size_t len, const char *word)
{
	return memmem(bytes, len, word, strlen(word)) != NULL;
}

void run_tail_add(struct run_tail *tail, const char *bytes, size_t len)
{
	size_t fresh, before;

	if (len > sizeof(tail->bytes)) {
		bytes += len - sizeof(tail->bytes);
		len = sizeof(tail->bytes);
	}
	if (tail->len + len > sizeof(tail->bytes)) {
		size_t drop = tail->len + len - sizeof(tail->bytes);

		memmove(tail->bytes, tail->bytes + drop, tail->len - drop);
		tail->len -= drop;
	}
	fresh = tail->len;
	before = fresh < sizeof(panic) ? fresh : sizeof(panic); /* the word may have come in two parts */
	memcpy(tail->bytes + tail->len, bytes, len);
	tail->len += len;
	if (contains(tail->bytes + fresh - before, len + before, panic))
		tail->panicked = true;
}

void run_tail_panic(const struct run_tail *tail, char *line, size_t size)
{
	const char *at = memmem(tail->bytes, tail->len, panic, strlen(panic));
	size_t len = 0;

	while (at && at + len < tail->bytes + tail->len && len + 1 < size && (unsigned char)at[len] >= ' ')
		len++;
	memcpy(line, at ? at : "", len);
	line[len] = '\0';
}

bool run_tail_lacks_memory(const struct run_tail *tail)
{
	static const char *const words[] = {"Too few physical memory!", "for node 0 memory map",
	                                    "uml_load_file: Failed to allocate", "System is deadlocked on memory"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (contains(tail->bytes, tail->len, words[i]))
			return true;
	}
	return false;
}

void run_tail_print(const struct run_tail *tail, FILE *out)
{
	size_t from = tail->len;
	int lines = 0;

	while (from > 0 && lines < SHOWN_LINES) {
		from--;
		lines += tail->bytes[from] == '\n' && from + 1 < tail->len;
	}
	if (from > 0)
		from++;
	for (; from < tail->len; from++) {
		if (tail->bytes[from] != '\r')
			putc(tail->bytes[from], out);
	}
	if (tail->len && tail->bytes[tail->len - 1] != '\n')
		putc('\n', out);
}
