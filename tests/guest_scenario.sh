#!/bin/sh
# What users do to a Debian root, as functions for the shell of a guest whose root it is; the host appends the call.
# Each says on its way what it has done ("ok ..."), and ends the script where an answer is not what Linux promises.
# shellcheck disable=SC3043  # dash knows local
set -eu

# They ruin the machine that they run on.
if ! grep -q '^none / hostfs ' /proc/self/mounts; then
	echo 'not in a guest whose root is hostfs'
	exit 1
fi

# --- what the functions say ------------------------------------------------------------------------------------

fail() {
	echo "FAILED: $*"
	exit 1
}

# same WHAT GOT WANTED
same() {
	[ "$2" = "$3" ] || fail "$1: $2, wanted $3"
}

# is FORMAT PATH WANTED: as stat -c has it
is() {
	same "$2" "$(stat -c "$1" "$2")" "$3"
}

# refused COMMAND...
refused() {
	if "$@" 2>/dev/null; then
		fail "it worked: $*"
	fi
}

gone() {
	if [ -e "$1" ] || [ -L "$1" ]; then fail "$1 is there"; fi
}

# The root file system, without what is mounted on it, on $UMLFS_DIR/root.
show_root() {
	mkdir "$UMLFS_DIR/root"
	mount --bind / "$UMLFS_DIR/root"
}

# What is read from now on comes from the host.
forget() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# numbers FILE MIB: no two pages are the same
numbers() {
	perl -e 'my ($path, $mib, $x) = (@ARGV, 1);
		open my $out, ">", $path or die "$path: $!\n";
		for (1 .. $mib * 256) {
			my @words = map { $x = ($x * 1103515245 + 12345) & 0x7fffffff } 1 .. 64;
			print $out pack("N*", @words) x 16 or die "$path: $!\n";
		}
		close $out or die "$path: $!\n";' "$@"
}

# compare LIST
compare() {
	show_root
	perl "$UMLFS_DIR/check.pl" "$UMLFS_DIR/$1" "$UMLFS_DIR/root"
}

# --- everyday work ---------------------------------------------------------------------------------------------

owners() {
	chown games:mail /etc/hostname
	is %U:%G /etc/hostname games:mail
	chown :tty /etc/hostname
	is %u:%g /etc/hostname 5:5
	chown 4000000000:123456 /etc/shells
	is %u:%g /etc/shells 4000000000:123456
	chown -R 33:33 /usr/share/perl5/Debconf
	same 'owners below' "$(find /usr/share/perl5/Debconf ! -uid 33 -o ! -gid 33)" ''
	chown -h games /etc/localtime # hostfs has no way to pass that on; it must not pass it to the target
	is %U /usr/share/zoneinfo/Etc/UTC root
	chown daemon /usr/bin/newgrp # a file that runs as its owner loses that with the owner
	is %a:%U /usr/bin/newgrp 755:daemon
	forget
	is %a:%U /usr/bin/newgrp 755:daemon
	is %u:%g /etc/shells 4000000000:123456
	echo ok owners
}

modes() {
	local issue

	issue=$(cat /etc/issue)
	chmod 4711 /usr/bin/newgrp
	chmod 0 /etc/issue
	chmod 7777 /opt
	chmod g+s,o-rx /srv
	chmod -R go-rwx /etc/apt
	touch -d '2001-02-03 04:05:06 UTC' /opt /etc/motd
	forget
	is %a /usr/bin/newgrp 4711
	is %a /etc/issue 0
	same 'a file of mode 0' "$(cat /etc/issue)" "$issue"
	is %a:%Y /opt 7777:981173106
	is %Y /etc/motd 981173106
	is %a /srv 2750
	same 'modes below' "$(find /etc/apt -perm /077)" ''
	echo ok modes
}

names() {
	mkdir -m 2755 /job
	is %a:%F /job '2755:directory'
	mkdir -p /job/a/b/c/d
	refused rmdir /job/a/b
	refused mkdir /job/a
	rmdir /job/a/b/c/d
	gone /job/a/b/c/d
	is %h /job/a/b 3

	ln -s ../etc/passwd /job/relative
	ln -s /nowhere/at/all /job/dangling
	long=$(printf '%01000d' 0)
	ln -s "$long$long$long" /job/long
	same readlink "$(readlink /job/long)" "$long$long$long"
	same 'through a link' "$(cat /job/relative)" "$(cat /etc/passwd)"
	refused cat /job/dangling
	ln -sfn a /job/dangling
	[ -d /job/dangling/b ] || fail 'a replaced link'

	echo one >/job/one
	ln /job/one /job/a/two
	echo more >>/job/a/two
	is %h /job/one 2
	same inode "$(stat -c %i /job/one)" "$(stat -c %i /job/a/two)"
	same 'through the other name' "$(cat /job/one)" "$(printf 'one\nmore')"
	ln /etc/debconf.conf /job/debconf.conf # of the base
	is %h /etc/debconf.conf 2
	rm /etc/debconf.conf
	is %h /job/debconf.conf 1
	chmod 640 /usr/bin/perl # a hard link that the archive made
	is %a:%h /usr/bin/perl5.36.0 640:2
	chmod 755 /usr/bin/perl
	refused ln /job/one /job/a/two
	refused ln /job/a /job/b

	mv /job/one /job/three
	gone /job/one
	perl -e 'exit !rename "/job/three", "/job/a/two"' || fail 'renaming a name to another one of its file'
	is %h /job/three 2 # which does nothing
	same 'after the renames' "$(cat /job/three)" "$(printf 'one\nmore')"
	echo '# new' >/etc/profile.new
	mv /etc/profile.new /etc/profile
	same 'replaced by rename' "$(cat /etc/profile)" '# new'
	long=$(printf '%0255d' 1)
	echo long >"/job/$long"
	refused touch "/job/${long}2"
	printf 'odd\n' >"/job/$(printf 'new\nline \377\\ \303\244')"
	same 'names' "$(find /job -maxdepth 1 -mindepth 1 -printf . | wc -c)" 8
	echo ok names
}

fifo() {
	mkfifo -m 620 /job/fifo
	is %a:%F /job/fifo 620:fifo
	echo through the fifo >/job/fifo &
	same fifo "$(cat /job/fifo)" 'through the fifo'
	wait
	echo ok fifo
}

unix_socket() {
	perl -MIO::Socket::UNIX -e '
		my $path = shift;
		my $server = IO::Socket::UNIX->new(Local => $path, Listen => 1) or die "bind: $!\n";
		my $pid = fork // die "fork: $!\n";
		if (!$pid) {
			my $client = IO::Socket::UNIX->new(Peer => $path) or die "connect: $!\n";
			print $client "hello\n";
			exit(<$client> eq "hello to you\n" ? 0 : 1);
		}
		my $peer = $server->accept or die "accept: $!\n";
		print $peer scalar(<$peer>) =~ s/\n/ to you\n/r;
		close $peer;
		waitpid $pid, 0;
		exit($? >> 8);' /job/socket || fail 'a UNIX socket'
	is %F /job/socket socket
	refused perl -MIO::Socket::UNIX -e 'exit !IO::Socket::UNIX->new(Peer => "/job/socket")'
	echo ok unix_socket
}

move_directory() {
	local before

	before=$(find /usr/share/doc -printf '%P %i %y %m %s %T@\n' | sort | sha256sum)
	mv /usr/share/doc /usr/share/moved
	gone /usr/share/doc
	gone /usr/share/doc/dpkg
	forget
	same 'below a renamed directory' \
		"$(find /usr/share/moved -printf '%P %i %y %m %s %T@\n' | sort | sha256sum)" "$before"
	mv /usr/share/moved/dpkg /usr/share/moved/apt/ # and one below it, with another parent
	[ -e /usr/share/moved/apt/dpkg/copyright ] || fail 'a directory moved below a moved one'
	refused mv /usr/share/moved /usr/share/moved/apt/
	mkdir /usr/share/doc
	same 'a new directory of an old name' "$(ls -A /usr/share/doc)" ''
	echo ok move_directory
}

remake_directory() {
	[ -e /usr/share/zoneinfo/Europe/Berlin ] || fail 'no time zones'
	rm -rf /usr/share/zoneinfo
	gone /usr/share/zoneinfo
	gone /usr/share/zoneinfo/Europe/Berlin
	mkdir /usr/share/zoneinfo
	same 'made anew' "$(ls -A /usr/share/zoneinfo)" ''
	gone /usr/share/zoneinfo/Europe
	mkdir /usr/share/zoneinfo/Europe
	gone /usr/share/zoneinfo/Europe/Berlin
	echo mine >/usr/share/zoneinfo/Europe/Paris
	forget
	same 'made anew' "$(cd /usr/share/zoneinfo && find . | sort)" "$(printf '.\n./Europe\n./Europe/Paris')"
	echo ok remake_directory
}

# What some small files hold: the last one, and those whose number is a thousand or more and 16.
small_text() {
	last=$((SMALL_FILES - 1))
	for i in $last $last $last $last 1016 2016 3016 4016 5016 6016 7016 8016 9016; do
		[ "$i" -gt "$last" ] || echo "the file number $i"
	done
}

# SMALL_FILES, thousands of them, half in one directory. The host reads them all.
small_files() {
	SMALL_FILES=$SMALL_FILES perl -MPOSIX -e 'my @here = ("one", 0 .. 99);
		mkdir "/job/small" or die;
		for my $dir (0 .. 100) {
			mkdir "/job/small/$here[$dir]" or die;
			chdir "/job/small/$here[$dir]" or die;
			for my $i (grep { $dir ? $_ % 200 == 2 * ($dir - 1) : $_ % 2 } 0 .. $ENV{SMALL_FILES} - 1) {
				my $text = "the file number $i\n" x ($i % 5);
				my $fd = POSIX::open("file-$i", O_WRONLY | O_CREAT | O_EXCL, 0644) or die "file-$i: $!\n";
				!$text or POSIX::write($fd, $text, length $text) == length $text or die "file-$i: $!\n";
				POSIX::close($fd) or die "file-$i: $!\n";
			}
		}' || fail 'cannot make small files'
	forget
	same 'small files' "$(find /job/small -type f -printf . | wc -c)" "$SMALL_FILES"
	same 'small files in one directory' "$(find /job/small/one -type f | sort -u | wc -l)" $((SMALL_FILES / 2))
	same 'some of them' "$(cat /job/small/one/file-$((SMALL_FILES - 1)) /job/small/8/file-?016)" "$(small_text)"
	echo ok small_files
}

large_file() {
	local sum

	numbers /job/large 100
	is %s /job/large 104857600
	sum=$(sha256sum </job/large)
	forget
	same '100 MB' "$(sha256sum </job/large)" "$sum"
	echo ok large_file
}

# Files of the base that are written to in the middle, at the end, and cut; the same where only cp(1) has written.
change_content() {
	local file size

	cp /usr/share/base-files/profile /job/copied
	for file in /usr/bin/perlbug /usr/bin/gpgv /job/copied; do
		size=$(stat -c %s "$file")
		cp -p "$file" /job/original
		printf '#CHANGED#' | dd of="$file" bs=1 seek=$((size / 2)) conv=notrunc status=none
		is %s "$file" "$size"
		forget
		same "changed in $file" "$(tail -c +$((size / 2 + 1)) "$file" | head -c 9)" '#CHANGED#'
		same "before it in $file" "$(cmp -n $((size / 2)) "$file" /job/original)" ''
		same "behind it in $file" "$(cmp -i $((size / 2 + 9)) "$file" /job/original)" ''
		echo tail >>"$file"
		is %s "$file" $((size + 5))
		truncate -s $((size / 2)) "$file"
		truncate -s $((size + 100000)) "$file"
		forget
		same "after a cut in $file" "$(tail -c +$((size / 2 + 1)) "$file" | tr -d '\0' | wc -c)" 0
		cat /job/original >"$file"
		forget
		cmp "$file" /job/original || fail "$file is not what was written last"
	done
	rm /job/original
	is %h /usr/bin/perlthanks 2
	same 'the other name of a changed file' "$(sha256sum </usr/bin/perlthanks)" "$(sha256sum </usr/bin/perlbug)"
	: >/etc/bash.bashrc
	is %s /etc/bash.bashrc 0
	echo ok change_content
}

package_is_there() {
	same 'the program of a package' "$(umlfs-probe)" 'hello from the probe'
	is %a:%u /usr/libexec/umlfs-probe/setuid 4755:0
	is %h /usr/share/umlfs-probe/hardlink 2
	same 'the link of a package' "$(readlink /usr/share/umlfs-probe/symlink)" greeting
	is %U:%G /var/lib/umlfs-probe games:games
	same 'a configuration file' "$(cat /etc/umlfs-probe.conf)" 'answer = 42'
	same 'dpkg --verify' "$(dpkg --verify umlfs-probe)" ''
	same 'the state of a package' "$(dpkg-query -W -f '${db:Status-Abbrev}' umlfs-probe)" 'ii '
}

install_package() {
	dpkg -i "$UMLFS_DIR/probe.deb" >/run/dpkg.log 2>&1 || fail "dpkg -i: $(cat /run/dpkg.log)"
	package_is_there
}

package() {
	install_package
	echo '# changed' >>/etc/umlfs-probe.conf
	dpkg -r umlfs-probe >/run/dpkg.log 2>&1 || fail "dpkg -r: $(cat /run/dpkg.log)"
	gone /usr/bin/umlfs-probe
	gone /usr/libexec/umlfs-probe
	gone /usr/share/umlfs-probe
	same 'a changed configuration file' "$(tail -n 1 /etc/umlfs-probe.conf)" '# changed'
	rm -r /var/lib/umlfs-probe
	dpkg -P umlfs-probe >/run/dpkg.log 2>&1 || fail "dpkg -P: $(cat /run/dpkg.log)"
	gone /etc/umlfs-probe.conf
	same 'dpkg --audit' "$(dpkg --audit)" ''
	echo ok package
}

# as_user SCRIPT, in the home of the user `ordinary`
as_user() {
	(cd /home/ordinary && setpriv --reuid=1234 --regid=1234 --clear-groups sh -euc "$1")
}

unprivileged_user() {
	useradd -m -s /bin/bash -u 1234 ordinary
	is %u:%g:%a /home/ordinary 1234:1234:755
	is %u:%g /home/ordinary/.bashrc 1234:1234
	same 'who a user is' "$(su - ordinary -s /bin/sh -c 'id -u; pwd')" "$(printf '1234\n/home/ordinary')"
	as_user 'umask 077; mkdir -p dir/sub; echo text >dir/sub/file; ln -s dir link; ln dir/sub/file hard; mkfifo fifo
		echo again >>hard; cp -r dir copy; mv copy moved; chmod 751 moved; mv moved/sub/file moved/; rm -r moved/sub
		touch -d @1000000000 old; echo "# mine" >>.bashrc; sed -i s/mine/ours/ .bashrc
		tar -C dir -cf all.tar sub; mkdir out; tar -C out -xf all.tar; rm all.tar' || fail 'work in a home'
	same 'owners in a home' "$(find /home/ordinary ! -uid 1234 -o ! -gid 1234)" ''
	is %a:%u /home/ordinary/dir/sub/file 600:1234
	is %a:%u /home/ordinary/moved 751:1234
	is %h /home/ordinary/hard 2
	is %Y /home/ordinary/old 1000000000
	same 'what the user wrote' "$(cat /home/ordinary/dir/sub/file)" "$(printf 'text\nagain')"
	same 'what the user changed' "$(tail -n 1 /home/ordinary/.bashrc)" '# ours'
	same 'what the user unpacked' "$(cat /home/ordinary/out/sub/file)" "$(printf 'text\nagain')"

	# shellcheck disable=SC2016  # the user's shell expands it
	as_user 'for command in "tee -a /etc/passwd" "cat /etc/shadow" "touch /usr/file" "rm -f /etc/hostname" \
		"chown 0 old" "rm -f /tmp/roots" "ls /etc/apt" "mkdir /home/other" "ln -s x /job/x"; do
			if $command </dev/null 2>/dev/null; then echo "$command"; exit 1; fi
		done' || fail 'a user may do that'
	cp /usr/bin/id /usr/local/bin/id-of-games
	chown games:games /usr/local/bin/id-of-games
	chmod 6755 /usr/local/bin/id-of-games
	same 'setuid and setgid' "$(as_user 'id-of-games -un; id-of-games -gn')" "$(printf 'games\ngames')"
	as_user 'passwd -S' >/dev/null || fail 'a setuid program of the base'
	echo ok unprivileged_user
}

# What is there afterwards has been seen with an empty cache.
everyday_work() {
	echo here >/tmp/roots
	owners
	modes
	names
	fifo
	unix_socket
	move_directory
	remake_directory
	small_files
	large_file
	change_content
	package
	unprivileged_user
	forget
}

# --- damage ----------------------------------------------------------------------------------------------------

# Everything keeps its name; nothing else stays.
damage_content() {
	chown -R 7:7 /usr/share /home
	chmod -R a+rwx /etc /var
	find /job/small -type f -name '*7' -exec truncate -s 3 '{}' +
	printf X | dd of=/job/large bs=1 seek=77777777 conv=notrunc status=none
	for file in /usr/bin/[f-t]* /etc/passwd /home/ordinary/*; do
		if [ -f "$file" ] && [ ! -L "$file" ]; then echo damage >>"$file"; fi
	done
	find /usr/lib /home ! -type l -exec touch -d @5 '{}' +
}

# Names go, come back as something else, and change places.
damage_names() {
	install_package
	rm -rf /job/small /usr/share/doc /usr/share/zoneinfo /home/ordinary
	mv /usr/share/moved /usr/share/doc
	mkdir -p /job/small/one /usr/share/zoneinfo/Europe /home/ordinary/hard
	for i in 1 3 5 7; do echo "other $i" >/job/small/one/file-$i; done
	echo file >/usr/share/moved
	rm /job/fifo /job/socket /job/long /job/relative
	mkdir /job/fifo
	ln -s /etc /job/socket
	mv /job/a /job/relative
	mv /etc/apt /etc/x
	mv /etc/dpkg /etc/apt
	mv /etc/x /etc/dpkg
	show_root
	rm "$UMLFS_DIR/root/dev/null" "$UMLFS_DIR/root/dev/tty"
	mkfifo "$UMLFS_DIR/root/dev/tty"
	for file in /usr/bin/[a-e]*; do
		if [ -f "$file" ] && [ ! -L "$file" ]; then cp -p "$file" /job/copy && mv /job/copy "$file"; fi
	done
}

# Nothing is left; the shell and the kernel's own file systems stay.
damage_all() {
	# shellcheck disable=SC2114  # of a guest
	rm -rf --one-file-system --no-preserve-root / 2>/dev/null || :
	for path in /usr /etc /job /home /var /tmp; do gone "$path"; done
}
