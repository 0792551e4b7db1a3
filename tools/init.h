/* init: the parts of the first process of a guest, umlfs-init. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The statuses of a command that did not run, as a shell has them. */
enum { INIT_REFUSED = 126, INIT_NOT_FOUND = 127 };

#define INIT_NEW_ROOT "/newroot"

/*
 * What is to be done. umlfs-run writes it into the initramfs as /job: strings "word=value", each with its NUL:
 *
 *     arg=WORD             the command, word for word; none: the user's shell
 *     env=NAME=VALUE
 *     chdir=DIR
 *     user=NAME            of the guest's /etc/passwd, or a number
 *     terminal=ROWS COLS   the command gets tty0 as its terminal, else tty0 and tty3 as output and errors
 *     errors=apart         errors go to tty3, else to tty0
 *     init=                the command takes this process's place
 *     share=rw:DIR         the first is /share0 of the host's side, and so on; or ro:DIR
 *     file=PATH            the first is /files/0 of the initramfs, and so on
 */
struct init_job {
	char **args; /* NULL behind the last */
	char **env;
	char **shares, **files;
	size_t n_args, n_env, n_shares, n_files;
	const char *chdir, *user;
	bool terminal, apart, init;
	unsigned short rows, cols;
};

/* Who the command runs as. */
struct init_user {
	uid_t uid;
	gid_t gid;
	char name[64], home[256], shell[256];
};

/* Tells the host about a failure: "error WHAT: WHY" on the status console (WHY is r's, none for 0); answers r. */
int init_failed(int r, const char *what);

/* Reads /job. 0 or -errno; everything stays allocated for good. */
int init_read_job(struct init_job *job_out);

/* Mounts the root, what a root needs, the shares and the files below INIT_NEW_ROOT; has told of errors. */
int init_mount_all(const struct init_job *job);

/* Looks the user up in the entered root; has told of errors. */
int init_find_user(const char *name, struct init_user *user_out);

/* Becomes the user, with all groups. 0 or -errno. */
int init_become(const struct init_user *user);
