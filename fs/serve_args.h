/* serve_args: what libfuse is told of a mount: see mount.fuse3(8). */
#pragma once

#include <fuse_opt.h>

#include "umlfs/serve.h"

/* Adds the options to args; source is what mount(8) shows as mounted, the session. 0 or -ENOMEM. The caller frees args. */
int serve_args(const struct serve_options *options, const char *source, struct fuse_args *args);
