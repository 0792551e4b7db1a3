# shellcheck shell=sh disable=SC3043,SC2164  # dash knows local; guest_scenario.sh has said set -e
# What people do with whole programs in a guest, as functions that follow those of guest_scenario.sh.

# --- a server, installed from packages that lie in the root ----------------------------------------------------

readonly server_socket=/var/lib/redis/socket

ask_server() {
	redis-cli -s "$server_socket" "$@"
}

# As its own user, in the directory that its package has made for that user.
start_server() {
	setpriv --reuid redis --regid redis --clear-groups redis-server --port 0 --unixsocket "$server_socket" \
		--dir /var/lib/redis --daemonize yes --logfile /var/log/redis/redis.log
	until ask_server ping >/dev/null 2>&1; do :; done
}

stop_server() {
	ask_server shutdown save
	while [ -S "$server_socket" ]; do :; done
}

packages_are_sound() {
	same 'dpkg --audit' "$(dpkg --audit)" ''
	same 'dpkg --verify' "$(dpkg --verify "$@")" ''
}

install_server() {
	echo 'deb [trusted=yes] file:/srv/packages ./' >/etc/apt/sources.list
	apt-get --quiet update
	DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes install redis-server
	forget
	packages_are_sound
	is %U:%G:%a /var/lib/redis redis:redis:750
	start_server
	is %U:%F "$server_socket" redis:socket
	same 'set' "$(ask_server set answer 42)" OK
	stop_server
}

server_is_there() {
	packages_are_sound redis-server redis-tools
	is %U /var/lib/redis/dump.rdb redis
	start_server
	same 'get' "$(ask_server get answer)" 42
	stop_server
}

server_is_gone() {
	gone /usr/bin/redis-server
	gone /var/lib/redis
	refused id redis
	refused dpkg --status redis-server
}

# --- git -------------------------------------------------------------------------------------------------------

# Ten commits, 100 files changed in each, as `git fast-import` reads them.
history() {
	perl -e 'for my $commit (1 .. 10) {
		my $message = "number $commit\n";
		printf "commit refs/heads/main\ncommitter a <a\@b> %d +0000\ndata %d\n%s", 1e9 + $commit, length $message, $message;
		for my $file (1 .. 100) {
			my $text = "file $file of commit $commit\n" x (1 + $file);
			printf "M 100644 inline part-%02d/file-%03d\ndata %d\n%s\n", $file % 20, $file, length $text, $text;
		}
	}'
}

work_with_git() {
	git config --global user.name a
	git config --global user.email a@b
	git init --quiet --initial-branch main /work/origin
	cd /work/origin
	history | git -c fastimport.unpackLimit=100000 fast-import --quiet # objects, not a pack
	git reset --quiet --hard
	git clone --quiet /work/origin /work/linked # which shares the objects' files
	is %h "$(find /work/linked/.git/objects -type f | head -n 1)" 2
	git clone --quiet --no-local /work/origin /work/clone
	cd /work/clone
	for i in 1 2 3 4 5; do
		git mv "part-0$i" "moved-$i"
		echo "changed $i" >"moved-$i/new"
		rm "part-1$i/file-0"[0-4]*
		git add --all
		git commit --quiet --message "change $i"
	done
	git push --quiet origin main:work
	git -C /work/linked pull --quiet --ff-only origin work
	git gc --quiet --prune=now
	forget
	git_is_sound
}

git_is_sound() {
	local commits

	for repository in origin linked clone; do
		cd "/work/$repository"
		same "git fsck of $repository" "$(git fsck --full --strict --no-progress 2>&1)" ''
		same "git status of $repository" "$(git status --porcelain 2>&1)" ''
		commits=15
		[ "$repository" != origin ] || commits=10
		same "commits of $repository" "$(git rev-list --count HEAD)" "$commits"
	done
	[ "$(git -C /work/origin count-objects)" != '0 objects, 0 kilobytes' ] || fail 'no loose objects'
	same 'the same tree' "$(git -C /work/linked rev-parse 'HEAD^{tree}')" "$(git -C /work/clone rev-parse 'HEAD^{tree}')"
}

# --- sqlite ----------------------------------------------------------------------------------------------------

# make_database PATH MODE
make_database() {
	sqlite3 -batch "$1" "PRAGMA journal_mode = $2; CREATE TABLE part (writer, number, part, text, PRIMARY KEY (writer, number, part));
		CREATE INDEX text ON part (text); CREATE TABLE counter (writer PRIMARY KEY, n)" >/dev/null
}

# write_database PATH WRITER TRANSACTIONS: says what is committed, when it is
write_database() {
	perl -e 'my ($path, $writer, $transactions) = @ARGV;
		$| = 1;
		print ".timeout 1000000\n.bail on\nPRAGMA synchronous = FULL;\nINSERT INTO counter VALUES ($writer, 0);\n";
		for my $n (1 .. $transactions) {
			print "BEGIN IMMEDIATE;\n";
			print "INSERT INTO part VALUES ($writer, $n, $_, hex(randomblob(600)));\n" for 1 .. 3;
			print "UPDATE counter SET n = $n WHERE writer = $writer;\nCOMMIT;\n";
			print "SELECT \"committed $path $writer $n\";\n";
		}' "$@" | sqlite3 -batch "$1"
}

# check_database PATH: what is there of each writer; no transaction by half
check_database() {
	same "integrity of $1" "$(sqlite3 -batch "$1" 'PRAGMA integrity_check')" ok
	same "transactions by half in $1" "$(sqlite3 -batch "$1" 'SELECT writer, number FROM part GROUP BY writer, number HAVING count(*) != 3')" ''
	sqlite3 -batch "$1" "SELECT 'found $1 ' || writer || ' ' || n FROM counter WHERE n =
		(SELECT count(*) / 3 FROM part WHERE part.writer = counter.writer)"
}

# load_databases TRANSACTIONS: three writers in each
load_databases() {
	mkdir -p /work
	for mode in wal delete; do
		make_database "/work/$mode" "$mode"
		for writer in 1 2 3; do
			write_database "/work/$mode" "$writer" "$1" &
		done
	done
	wait
}

check_databases() {
	for mode in wal delete; do
		same "mode of $mode" "$(sqlite3 -batch "/work/$mode" 'PRAGMA journal_mode')" "$mode"
		check_database "/work/$mode"
	done
}

# --- a compiler ------------------------------------------------------------------------------------------------

# 25 files in C; five each include one of five headers, all include another.
make_sources() {
	mkdir -p /work/source
	cd /work/source
	perl -e 'sub put { my ($path, $text) = @_; open my $out, ">", $path or die; print $out $text; close $out or die }
		put("all.h", "#pragma once\n" . join "", map { "int f_$_(void);\n" } 0 .. 24);
		put("group-$_.h", "#pragma once\n#define GROUP $_\n") for 0 .. 4;
		put("unit-$_.c", sprintf "#include \"all.h\"\n#include \"group-%d.h\"\nint f_%d(void) { return %d + 1000 * GROUP; }\n",
			$_ % 5, $_, $_) for 0 .. 24;
		put("main.c", "#include <stdio.h>\n#include \"all.h\"\nint main(void) { printf(\"%d\\n\", 0"
			. join("", map { " + f_$_()" } 0 .. 24) . "); }\n");
		put("Makefile", join "\n", q(OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))), q(program: $(OBJECTS)),
			qq(\t) . q(@echo linking), qq(\t) . q(@$(CC) -o $@ $^), q(%.o: %.c), qq(\t) . q(@echo compiling $<),
			qq(\t) . q(@$(CC) -MMD -c -o $@ $<), q(-include $(OBJECTS:.o=.d)), "");'
}

# make_makes COMPILED LINKED: so many files, and nothing the next time. It warns where the guest's clock is behind the host's.
make_makes() {
	make --silent -j2 >/work/log 2>&1 || fail "make: $(cat /work/log)"
	sed -i '/Clock skew detected/d; /has modification time .* in the future/d' /work/log
	same 'what make does' "$(grep -c ^compiling /work/log) $(grep -c ^linking /work/log) $(wc -l </work/log)" "$1 $2 $(($1 + $2))"
	make --question || fail 'make has more to do'
}

# Until the file is newer than the program: times are whole seconds here. hostfs of 6.1 passes times on, and not "now".
touch_newer() {
	until [ "$(stat -c %Y "$1")" -gt "$(stat -c %Y program)" ]; do touch -d "@$(date +%s)" "$1"; done
}

compile() {
	make_sources
	make_makes 26 1
	same 'the program' "$(./program)" 50300
	forget
	make --question || fail 'make has more to do'
	touch_newer group-3.h
	make_makes 5 1
	sed -i 's/GROUP 2/GROUP 7/' group-2.h
	touch_newer group-2.h
	make_makes 5 1
	same 'the changed program' "$(./program)" 75300
	touch_newer unit-7.o
	make_makes 0 1
}

nothing_to_compile() {
	cd /work/source
	make_makes 0 0
	same 'the changed program' "$(./program)" 75300
	touch_newer group-4.h
	make_makes 5 1
}
