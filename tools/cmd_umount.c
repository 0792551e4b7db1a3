/* cmd_umount: ends a mount; when it returns, the daemon has ended and everything is on disk. */
#include "cmd.h"

#include "umlfs/mounts.h"

static int run_umount(const struct command *self, int argc, char **argv)
{
	int first;
	int r = cmd_parse(self, argc, argv, NULL, 1, 1, &first);

	return r >= 0 ? r : cmd_exit(mounts_end(argv[first], &cmd_log));
}

const struct command cmd_umount = {
	.name = "umount",
	.alias = "unmount",
	.usage = "SESSION|MOUNTPOINT",
	.help = "unmount a session; returns when everything is on disk",
	.details = "Returns when the daemon has ended. Refuses while a process has files open under\n"
		   "the mountpoint or has its working directory there, and names it. A mount whose\n"
		   "daemon is dead is detached.\n",
	.run = run_umount,
};
