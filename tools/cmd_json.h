/* cmd_json: strings as JSON, for --json. */
#pragma once

#include <stdio.h>

/*
 * Prints text with its quotation marks. Bytes that are not UTF-8 stand as \udcXX, as Python's surrogateescape
 * has them, so that every name can be told.
 */
void cmd_json_string(FILE *out, const char *text);
