/* cmd_json: strings as JSON, for --json. */
#pragma once

#include <stddef.h>
#include <stdio.h>

/*
 * Prints text with its quotation marks. Bytes that are not UTF-8 stand as \udcXX, as Python's surrogateescape
 * has them, so that every name can be told.
 */
void cmd_json_string(FILE *out, const char *text);

/* How many bytes from p on are one UTF-8 character above ASCII; 0 when they are none. */
size_t cmd_utf8_length(const unsigned char *p);
