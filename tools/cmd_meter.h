/* cmd_meter: shows how far something long is, and hears whether it shall stop. */
#pragma once

#include <stdbool.h>

#include "umlfs/progress.h"

struct cmd_meter {
	bool terminal;
	int signals;           /* -1: they end the process */
	double started, shown; /* seconds */
};

/* From now on SIGINT, SIGTERM and SIGHUP are what cmd_meter_tell() answers. Never closed. */
void cmd_meter_start(struct cmd_meter *meter);

/*
 * For the library's progress callbacks; meter is a struct cmd_meter. On a terminal, and after a second, shows bytes,
 * entries and rate. 1 when the user wants it to stop, else 0.
 */
int cmd_meter_tell(void *meter, const struct progress *state);

/* Clears what was shown. The seconds since the start. */
double cmd_meter_end(struct cmd_meter *meter);
