/* finding: one thing that a check found wrong. */
#pragma once

#include <stdbool.h>

struct finding {
	/*
	 * What it is about:
	 *     index, base       the base's metadata; the base's files against it
	 *     manifest          the session's list of layers
	 *     journal           a layer's records
	 *     table             a layer's table, against its journal
	 *     content           a layer's content files
	 *     stray             a file that belongs to nothing
	 *     entry, directory  a name; a directory's place in the tree
	 *     links, orphan     a link count; an inode without a name
	 *     inode             what an inode says of itself
	 *     state             a snapshot, or the session as it stands, as a whole
	 */
	const char *kind;
	const char *where; /* the file, or the state with the path and the inode number in it */
	const char *what;  /* what is wrong, and what it means */
	bool mendable;     /* a repair can mend it */
	bool mended;       /* and has */
};
