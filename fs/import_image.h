/* import_image: an image of the OCI layout on its way to the target. */
#pragma once

#include "import_blobs.h"
#include "import_target.h"

struct import_image_choice {
	const char *platform; /* OS/ARCHITECTURE[/VARIANT]; NULL: this machine's, unless there is one image only */
	const char *image;    /* its name in the layout; NULL: any */
};

/*
 * Puts all layers of the image over what the target has, each after its digest was compared. Errors are written to report:
 * -EUCLEAN for what is missing, malformed or has another digest, -ENOENT and -ENOTUNIQ when no image, or more than one, is
 * what was chosen.
 */
int import_image(const struct import_blobs *blobs, const struct import_image_choice *choice,
                 const struct import_report *report, struct import_meter *meter, struct import_target *target);
