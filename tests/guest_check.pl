# Compares the guest's root with a list of what must be there: every entry, and nothing but them.
#
# usage: perl guest_check.pl LIST ROOT, where ROOT shows the root file system without what is mounted on it.
# A line of LIST: path type mode uid gid nlink size mtime major:minor target sha256, separated by one space;
# mode octal, mtime in seconds, - for what does not count, %XX for odd bytes.
# Ends with 0 after "N entries, M contents"; with 1 after a line for each of the first differences.
use strict;
use warnings;
use Fcntl ':mode';

my ($list, $root) = @ARGV;
my @fields = qw(type mode uid gid nlink size mtime rdev target);
my %types = (S_IFREG, 'f', S_IFDIR, 'd', S_IFLNK, 'l', S_IFCHR, 'c', S_IFBLK, 'b', S_IFIFO, 'p', S_IFSOCK, 's');
my $differences = 0;

sub differ {
	print "$_[0]\n" if ++$differences <= 20;
}

# As the list has it.
sub quote {
	return $_[0] =~ s{([^A-Za-z0-9_.~/-])}{sprintf '%%%02X', ord $1}ger;
}

sub unquote {
	return $_[0] =~ s/%(..)/chr hex $1/ger;
}

sub entry {
	my ($path) = @_;
	my (undef, undef, $mode, $nlink, $uid, $gid, $rdev, $size, undef, $mtime) = lstat $path or return;
	my $type = $types{S_IFMT($mode)} // '?';
	my $special = $type =~ /[bc]/;
	my $major = $special ? ($rdev >> 8) & 0xfff : 0;
	my $minor = $special ? ($rdev & 0xff) | (($rdev >> 12) & 0xfff00) : 0;
	return ($type, sprintf('%o', S_IMODE($mode)), $uid, $gid, $nlink, $size, $mtime, "$major:$minor",
		$type eq 'l' ? quote(readlink $path) : '');
}

# Calls $visit with every path below the root, '.' for itself, and its entry.
sub walk {
	my ($path, $visit) = @_;
	my $here = $path eq '.' ? $root : "$root/$path";
	my @entry = entry($here) or return differ(quote($path) . ": $!");
	$visit->($path, @entry);
	return if $entry[0] ne 'd';
	opendir my $dir, $here or return differ(quote($path) . ": cannot be listed: $!");
	for my $name (grep { !/^\.\.?$/ } readdir $dir) {
		walk($path eq '.' ? $name : "$path/$name", $visit);
	}
}

# The SHA-256 sums of files, by the program that every Debian has.
sub sums {
	my ($paths, $scratch) = @_;
	open my $out, '>', $scratch or die "$scratch: $!\n";
	print $out map { "$root/$_\0" } @$paths;
	close $out or die "$scratch: $!\n";
	open my $in, '-|', 'xargs', '-0', '-r', '-a', $scratch, 'sha256sum', '-z', '--' or die "sha256sum: $!\n";
	local $/ = "\0";
	my %sums;
	while (<$in>) {
		chomp;
		$sums{substr $_, 67 + length $root} = substr $_, 0, 64;
	}
	return %sums;
}

my (%wanted, %contents);
open my $lines, '<', $list or die "$list: $!\n";
while (<$lines>) {
	chomp;
	my ($path, @want) = split / /, $_, -1;
	$path = unquote($path);
	my $sum = pop @want;
	$contents{$path} = $sum if $sum ne '-' && $want[0] eq 'f';
	$wanted{$path} = \@want;
}

my $entries = 0;
walk('.', sub {
	my ($path, @got) = @_;
	my $want = delete $wanted{$path} // return differ(quote($path) . ': must not be there');
	my @wrong = grep { $want->[$_] ne '-' && $got[$_] ne $want->[$_] } 0 .. $#fields;
	differ(quote($path) . ': ' . join ', ', map { "$fields[$_] $got[$_], wanted $want->[$_]" } @wrong) if @wrong;
	++$entries;
});
differ(quote($_) . ': is not there') for sort keys %wanted;

my %sums = sums([sort keys %contents], "$list.paths");
for (sort keys %contents) {
	differ(quote($_) . ': other content') if ($sums{$_} // '') ne $contents{$_};
}
print "$entries entries, ", scalar(keys %sums), " contents\n";
print "$differences differences\n" if $differences;
exit($differences ? 1 : 0);
