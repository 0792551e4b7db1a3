/*
 * unit_fault: makes one system call or one allocation of the library fail.
 * Invariant: nothing fails but between fault_arm() and fault_disarm(), and then only the calls that were asked for.
 * Called by the tests of what fails below; they are linked with --wrap for every name in unit_fault.names.
 */
#pragma once

#include <stdbool.h>

enum fault {
	FAULT_EIO,    /* one system call answers EIO */
	FAULT_ENOSPC, /* one system call answers ENOSPC */
	FAULT_SHORT,  /* one read, write or copy of more than a byte does half of it */
	FAULT_TORN,   /* one append to a journal does half, and the first attempt to take that back fails */
	FAULT_MEMORY, /* one allocation fails */
	FAULT_FULL,   /* the disk is full: what needs room on it answers ENOSPC, from one call on */
	FAULT_BYTES,  /* the disk fails: what changes the bytes or the length of a file answers EIO, from one call on */
	FAULTS,
};

/* Call number nr (from 1) of those that can fail so will. */
void fault_arm(enum fault fault, unsigned int nr);

/* Nothing fails any more. True when something did. */
bool fault_disarm(void);

/* What was armed, and the call that failed last, in words; valid until the next fault_arm(). */
const char *fault_text(void);

/* How many descriptors the process has. */
unsigned int fault_descriptors(void);
