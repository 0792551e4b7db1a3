/*
 * import_meter: counts an import's work.
 * Invariant: between two calls of the caller's function lie less than a MiB of bytes and 64 members, give or
 * take a block.
 * Called by the files of import, and by export_tar and base_commit.
 */
#include "import_meter.h"

#include <errno.h>

enum {
	EVERY_BYTES = 1 << 20,
	EVERY_ENTRIES = 64,
};

int import_meter_tell(struct import_meter *meter)
{
	meter->work = 0;
	if (meter->tell && meter->tell(meter->arg, &meter->now) != 0)
		meter->stopped = true;
	return meter->stopped ? -ECANCELED : 0;
}

int import_meter_work(struct import_meter *meter, uint64_t bytes)
{
	meter->work += bytes;
	return meter->work >= EVERY_BYTES ? import_meter_tell(meter) : 0;
}

int import_meter_entry(struct import_meter *meter)
{
	meter->now.entries++;
	return meter->now.entries % EVERY_ENTRIES == 0 ? import_meter_tell(meter) : 0;
}
