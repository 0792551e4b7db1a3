"""A disk that gets full."""

import os
import subprocess

from calls import outcome
from umlfs_cli import ids


class Disk:
    """A small file system at place/disk, the place's user's: how full it is can be chosen. Place unmounts it."""

    def __init__(self, place, size, kind='tmpfs', more=''):
        self.place, self.path, self.ballast = place, place / 'disk', place / 'disk/ballast'
        os.mkdir(self.path)
        uid, gid = ids(place.user)
        if kind == 'tmpfs':
            subprocess.run(['mount', '-t', 'tmpfs', '-o', f'size={size},uid={uid},gid={gid},mode=755{more}', 'tmpfs', self.path],
                           check=True)
            return
        with open(place / 'image', 'wb') as stream:
            stream.truncate(size)
        subprocess.run([f'mkfs.{kind}', '-q', '-m', '0', '-E', f'root_owner={uid}:{gid}', place / 'image'], check=True)
        subprocess.run(['mount', '-o', 'loop', place / 'image', self.path], check=True)

    def __truediv__(self, name):
        return f'{self.path}/{name}'

    def fill(self, spare=0):
        """Leaves room for `spare` bytes, rounded to pages: 0 is the very last one, of what root may have alone too."""
        with open(self.ballast, 'ab', buffering=0) as stream:
            while spare == 0 and (outcome(stream.write, b'b' * 65536) != 'ENOSPC' or outcome(stream.write, b'b' * 4096) != 'ENOSPC'):
                pass
            st = os.statvfs(self.path)
            if spare and st.f_bavail * st.f_frsize > spare:
                os.posix_fallocate(stream.fileno(), os.fstat(stream.fileno()).st_size, st.f_bavail * st.f_frsize - spare)

    def free(self):
        os.unlink(self.ballast)

    def grow(self, size):
        subprocess.run(['mount', '-o', f'remount,size={size}', self.path], check=True)
