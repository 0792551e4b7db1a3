/* import_meter: tells the caller of an import how far it is, and hears whether to stop. */
#pragma once

#include <stdbool.h>

#include "umlfs/import.h"

struct import_meter {
	int (*tell)(void *arg, const struct progress *progress); /* may be NULL */
	void *arg;
	struct progress now; /* who reads the source counts bytes */
	uint64_t work;       /* bytes read and written since the last call */
	bool stopped;        /* the caller said so: a failure that follows is no news */
};

/* Tells now. 0 or -ECANCELED, as the others. */
int import_meter_tell(struct import_meter *meter);

/* So many bytes more were read or written. */
int import_meter_work(struct import_meter *meter, uint64_t bytes);

/* One more member. */
int import_meter_entry(struct import_meter *meter);
