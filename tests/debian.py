"""Debian 12 as roots for guests, and packages for them: made once, kept in a cache.

    debian_root(cache)      the smallest, and a package to install with dpkg
    systems_root(cache)     with systemd, a compiler, git, sqlite, and packages to install with apt
"""

import fcntl
import os
import pathlib
import subprocess
import tempfile
from typing import NamedTuple


class DebianRoot(NamedTuple):
    archive: str        # debian-root.tar.xz: Debian 12, minbase
    deb: str            # a package for dpkg -i, installed without a network


PROBE_CONTROL = """\
Package: umlfs-probe
Version: 1.0
Architecture: all
Maintainer: umlfs <umlfs@localhost>
Description: files of many kinds for a test of dpkg
"""

PROBE_POSTINST = """\
#!/bin/sh
set -e
mkdir -p /var/lib/umlfs-probe
chown games:games /var/lib/umlfs-probe
echo "$1" >/var/lib/umlfs-probe/configured
"""


def build_probe(deb):
    """The package: a program (one setuid), a configuration file, data with a symbolic and a hard link, a postinst."""
    with tempfile.TemporaryDirectory(prefix='umlfs-probe-') as tree:
        os.chmod(tree, 0o755)

        def put(path, text, mode=0o644):
            file = pathlib.Path(tree, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            file.chmod(mode)

        put('DEBIAN/control', PROBE_CONTROL)
        put('DEBIAN/conffiles', '/etc/umlfs-probe.conf\n')
        put('DEBIAN/postinst', PROBE_POSTINST, 0o755)
        put('etc/umlfs-probe.conf', 'answer = 42\n')
        put('usr/bin/umlfs-probe', '#!/bin/sh\ncat /usr/share/umlfs-probe/greeting\n', 0o755)
        put('usr/libexec/umlfs-probe/setuid', '#!/bin/sh\n', 0o4755)
        put('usr/share/umlfs-probe/greeting', 'hello from the probe\n')
        put('usr/share/umlfs-probe/sub/data', ''.join(f'{i}\n' for i in range(20000)))
        share = f'{tree}/usr/share/umlfs-probe'
        os.symlink('greeting', f'{share}/symlink')
        os.link(f'{share}/sub/data', f'{share}/hardlink')
        subprocess.run(['dpkg-deb', '--build', '--root-owner-group', '-Zgzip', tree, deb], check=True,
                       stdout=subprocess.DEVNULL)


def build(tar, *options):
    """A Debian mirror is needed. What mmdebstrap says is in the error when it fails."""
    command = ['mmdebstrap', '--quiet', '--variant=minbase', '--aptopt=Acquire::Retries "3"', *options, 'bookworm', tar]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise RuntimeError(f'mmdebstrap: {done.returncode}\n{done.stdout.decode(errors="replace")}')


def build_debian(archive):
    """About 20 seconds."""
    tar = archive.removesuffix('.xz')
    build(tar)
    subprocess.run(['xz', '-T0', '-1', tar], check=True)


# What every guest of the suite needs; the packages of a server wait in /srv/packages with what they depend on.
SYSTEMS_PACKAGES = 'systemd-sysv,git,sqlite3,gcc,make,libc6-dev'
SERVER_PACKAGE = 'redis-server'
FETCH_SERVER = f"""
set -eu
cd "$1/srv"
rm -f ../var/cache/apt/archives/*.deb
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --quiet --yes --download-only install {SERVER_PACKAGE}
mkdir packages
mv ../var/cache/apt/archives/*.deb packages
cd packages
for deb in *.deb; do
    dpkg-deb --field "$deb"
    printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' "$deb" "$(stat -c %s "$deb")" "$(sha256sum <"$deb" | cut -c -64)"
done >Packages
"""
SET_PASSWORD = 'echo root:umlfs | chroot "$1" chpasswd'


def build_systems(archive):
    """About 35 seconds; 430 MB, and 14,000 entries."""
    build(archive, f'--include={SYSTEMS_PACKAGES}', f'--customize-hook={FETCH_SERVER}',
          f'--customize-hook={SET_PASSWORD}')


def cached(cachedir, builders):
    """The paths of files in the cache; makes what is not there yet, one process at a time, each file whole or not at all."""
    os.makedirs(cachedir, exist_ok=True)
    paths = [f'{cachedir}/{name}' for name in builders]
    with open(f'{cachedir}/.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path, build_file in zip(paths, builders.values()):
            if os.path.exists(path):
                continue
            with tempfile.TemporaryDirectory(prefix='.new-', dir=cachedir) as new:
                build_file(f'{new}/{os.path.basename(path)}')
                os.rename(f'{new}/{os.path.basename(path)}', path)
    return paths


def debian_root(cachedir):
    return DebianRoot(*cached(cachedir, {'debian-root.tar.xz': build_debian, 'umlfs-probe.deb': build_probe}))


def systems_root(cachedir):
    """The path of an archive."""
    return cached(cachedir, {'systems-root.tar': build_systems})[0]
