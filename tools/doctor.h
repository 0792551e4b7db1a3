/* doctor: what the parts of the command doctor share. */
#pragma once

#include <stdbool.h>

#include "umlfs/uml.h"

enum doctor_verdict {
	DOCTOR_OK,
	DOCTOR_LIMIT, /* guests boot, something in them does not work or is slow */
	DOCTOR_FAIL,  /* no guest boots */
};

struct doctor_fact {
	const char *name;
	enum doctor_verdict verdict;
	char text[256]; /* what is so */
	char mend[256]; /* the command or step that mends it; empty when it is fine */
};

/* The kernel that is asked about. */
struct doctor_kernel {
	const char *name; /* as given, or NULL */
	char *path;       /* NULL: there is none; on the heap */
	struct uml_version version;
};

/* Fills in everything but the name. A fact is looked up at the moment of the call. */
typedef void doctor_look(const struct doctor_kernel *kernel, struct doctor_fact *fact);

/* doctor_host.c: the machine. */
doctor_look doctor_fuse, doctor_fusermount, doctor_memory, doctor_ptrace, doctor_descriptors, doctor_hardlinks,
	doctor_confinement, doctor_mounts;

/* doctor_guest.c: the kernel, and a guest that is booted with it. */
doctor_look doctor_kernel_version, doctor_xstate, doctor_guest;

/* Puts a verdict into a fact: text and mend (NULL: nothing to mend) are formats for the values behind. */
void doctor_say(struct doctor_fact *fact, enum doctor_verdict verdict, const char *mend, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
