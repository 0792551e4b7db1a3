/* uml: a User-Mode Linux kernel on this machine: where it is, how old, and what it needs of its host. */
#pragma once

#include <stdbool.h>

#include "umlfs/log.h"

struct uml_version {
	int major, minor;
	char text[64]; /* as the kernel says it: "6.1.176" */
};

/*
 * Finds a kernel and asks its version. name: a path, or a name in PATH; NULL: $UMLFS_KERNEL, else ./linux,
 * ./vmlinux, linux.uml and linux in PATH, the first one that is a UML kernel. *path_out: absolute, on the
 * heap. Errors are written to log: -ENOENT there is none, -EACCES, -ENOEXEC it is something else.
 */
int uml_find(const char *name, const struct log *log, char **path_out, struct uml_version *version_out);

/* The version in what `linux --version` says: 0, or -EINVAL when that is no kernel's answer. */
int uml_parse_version(const char *text, struct uml_version *out);

/*
 * Kernels before 6.13 let the guest's processes go when they are killed: those go on as programs of the host, which the host's
 * kernel answers. Not with libumlfs-xstate.so preloaded.
 */
bool uml_needs_preload(const struct uml_version *version);

/*
 * They also cannot restore the registers of a host with AVX-512 or AMX and panic at their first
 * process, unless libumlfs-xstate.so is preloaded. cpuinfo: the text of /proc/cpuinfo.
 */
bool uml_needs_xstate(const struct uml_version *version, const char *cpuinfo);

/* The same of this machine. */
bool uml_needs_xstate_here(const struct uml_version *version);

/*
 * A directory for the guest's memory, which is mapped executable: /dev/shm, else the temporary directory. NULL
 * when both are mounted noexec.
 */
const char *uml_memory_dir(void);
