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
 *     pipe=input           standard input comes from the host, else there is none
 *     pipe=output          output is a pipe for the command, and not a terminal
 *     pipe=errors          the same of errors, when they go apart
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
	bool input_piped, output_piped, errors_piped;
	unsigned short rows, cols;
};

/* Who the command runs as. */
struct init_user {
	uid_t uid;
	gid_t gid;
	char name[64], home[256], shell[256];
};

/* Tells the host something on the status console; see umlfs_init.c. */
void init_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Tells the host about a failure: "error WHAT: WHY" on the status console (WHY is r's, none for 0); answers r. */
int init_failed(int r, const char *what);

/* Reads /job. 0 or -errno; everything stays allocated for good. */
int init_read_job(struct init_job *job_out);

/* Mounts the root, what a root needs, the shares and the files below INIT_NEW_ROOT; has told of errors. */
int init_mount_all(const struct init_job *job);

/* Mounts the directory in which the host puts the input, outside of the root: a descriptor of it; has told of errors. */
int init_mount_input(int *dir_out);

/* Looks the user up in the entered root; has told of errors. */
int init_find_user(const char *name, struct init_user *user_out);

/* Becomes the user, with all groups. 0 or -errno. */
int init_become(const struct init_user *user);

enum { INIT_STREAMS = 3 };

/* What a command without a terminal reads and writes; -1: nothing is carried there. */
struct init_streams {
	int input, from[2];       /* this side of its standard input, output and errors */
	int to[2];                /* the consoles for its output and errors; the caller sets them */
	int theirs[3];            /* the command's side */
	int dir;                  /* where the input comes */
	int part;                 /* the file of it that is being read */
	unsigned int taken, told; /* how many are done, and are known to be there */
	bool ended;               /* no more will come */
};

/* Makes the pipes; before the root is entered. Has told of errors. */
int init_streams_open(const struct init_job *job, struct init_streams *out);

/* In the command's process: puts the pipes in their places; owner may open them again. */
void init_streams_give(const struct init_streams *streams, uid_t owner);

/* When the command's process is there: lets go of its side. */
void init_streams_begin(struct init_streams *streams);

struct pollfd;

/* What to wait for, and what to do then; fds: INIT_STREAMS of them. */
void init_streams_poll(const struct init_streams *streams, struct pollfd *fds);
void init_streams_move(struct init_streams *streams, const struct pollfd *fds);

/* The host says "input N" or "end". */
void init_streams_hear(struct init_streams *streams, const char *line);

/* When no process but this one is left: carries the rest of the output. */
void init_streams_finish(struct init_streams *streams);

/*
 * The control group that the command runs in, for a moment's rest: a descriptor, or -1 when the kernel has none: then
 * the guest is like any other for who asks. Before the root is entered.
 */
int init_freeze_open(void);

/* The calling process and its children are of the command from now on. */
void init_freeze_enter(int group);

/* Freezes the command and syncs, or lets it go on. Answers whether it is frozen now. */
bool init_freeze_toggle(int group, bool frozen);
