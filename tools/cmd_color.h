/* cmd_color: colours for who reads on a terminal, and has not said otherwise; see https://no-color.org. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

enum color { COLOR_RED, COLOR_GREEN, COLOR_YELLOW, COLOR_CYAN };

/* True when out is a terminal that has colours, and NO_COLOR is empty or not set. */
bool cmd_color_wanted(FILE *out);

/* What to print before and behind a text that is to have the colour; "" when none is wanted. */
const char *cmd_color_start(bool wanted, enum color color);
const char *cmd_color_end(bool wanted);

/* The value of --color: auto, always, never; auto is what cmd_color_wanted() says. False: it is none of them. */
bool cmd_color_choose(const char *when, FILE *out, bool *wanted_out);
