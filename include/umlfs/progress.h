/* progress: how far something long is, for whoever shows it to people. */
#pragma once

#include <stdint.h>

struct progress {
	uint64_t bytes;       /* done; of an archive that is read, as it lies on disk */
	uint64_t bytes_total; /* 0: not known */
	uint64_t entries;     /* files done */
};
