"""Images as the tests make them: layouts of the OCI, and what `docker save` writes."""

import hashlib
import io
import json
import os
import subprocess
import tarfile

from importing import index_of

MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
INDEX = 'application/vnd.oci.image.index.v1+json'
ARCHITECTURE = {'x86_64': 'amd64', 'aarch64': 'arm64'}.get(os.uname().machine, os.uname().machine)
DIR = {'type': tarfile.DIRTYPE, 'mode': 0o755}


def layer(*members):
    """A tar of (name, data or changes of the TarInfo)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as stream:
        for name, what in members:
            info = tarfile.TarInfo(name)
            data = what if isinstance(what, bytes) else b''
            info.size, info.mtime = len(data), 10**9
            for key, value in (what if isinstance(what, dict) else {}).items():
                setattr(info, key, value)
            stream.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Layout:
    """An image layout in a directory."""

    def __init__(self, path):
        self.path, self.listed = path, []
        os.makedirs(f'{path}/blobs/sha256')
        self.put('oci-layout', {'imageLayoutVersion': '1.0.0'})

    def put(self, name, document):
        with open(f'{self.path}/{name}', 'w', encoding='ascii') as stream:
            json.dump(document, stream)

    def blob(self, data, **more):
        if not isinstance(data, bytes):
            data = json.dumps(data).encode()
        digest = hashlib.sha256(data).hexdigest()
        with open(f'{self.path}/blobs/sha256/{digest}', 'wb') as stream:
            stream.write(data)
        return {'digest': f'sha256:{digest}', 'size': len(data)} | more

    def image(self, layers, **more):
        config = self.blob({'os': 'linux'}, mediaType='application/vnd.oci.image.config.v1+json')
        manifest = {'schemaVersion': 2, 'config': config,
                    'layers': [self.blob(data, mediaType='application/vnd.oci.image.layer.v1.tar') for data in layers]}
        return self.blob(manifest, mediaType=MANIFEST, **more)

    def end(self, *listed):
        self.put('index.json', {'schemaVersion': 2, 'manifests': listed})
        return self.path

    def blobs(self):
        return sorted(os.listdir(f'{self.path}/blobs/sha256'))


def image_of(place, *layers, name='image'):
    layout = Layout(place / name)
    return layout.end(layout.image(layers))


def names(place, base):
    return {path.decode() for path in index_of(place / base)} - {'.'}


def zstd(data):
    return subprocess.run(['zstd', '-q'], input=data, stdout=subprocess.PIPE, check=True).stdout


LOWER = layer(('d', DIR), ('d/a', b'1'), ('d/b', b'1'), ('d/e', DIR), ('d/e/f', b'1'), ('x', b'1'), ('y', DIR), ('y/in', b'1'))


class Saved:
    """An archive as `docker save` before version 25 has it: a directory for each layer, links for those that come again."""

    def __init__(self):
        self.members, self.images, self.seen = [], [], {}

    def image(self, *layers, tags=(), changes=None, **config):
        paths = []
        for number, data in enumerate(layers):
            name = hashlib.sha256(f'{len(self.images)} {number}'.encode()).hexdigest()      # no digest of anything that is there
            path = f'{name}/layer.tar'
            again = {'type': tarfile.SYMTYPE, 'linkname': f'../{self.seen[data]}'} if data in self.seen else data
            self.members += [(name, DIR), (f'{name}/VERSION', b'1.0'), (f'{name}/json', b'{}'), (path, again)]
            self.seen.setdefault(data, path)
            paths.append(path)
        ids = [f'sha256:{hashlib.sha256(data).hexdigest()}' for data in layers]
        text = json.dumps({'os': 'linux', 'architecture': ARCHITECTURE, 'rootfs': {'type': 'layers', 'diff_ids': ids}} | config).encode()
        name = f'{hashlib.sha256(text).hexdigest()}.json'
        self.members.append((name, text))
        self.images.append({'Config': name, 'RepoTags': list(tags), 'Layers': paths} | (changes or {}))
        return self

    def bytes(self):
        return layer(*self.members, ('manifest.json', json.dumps(self.images).encode()), ('repositories', b'{}'))

    def put(self, path):
        with open(path, 'wb') as stream:
            stream.write(self.bytes())
        return path


class SavedLayout(Layout):
    """An archive as `docker save` from version 25 on has it: a layout of the OCI and docker's own list of the same images."""

    def __init__(self, path):
        super().__init__(path)
        self.saved = []

    def tagged(self, *layers, tags=()):
        """tags: as docker shows them, without its own registry's name."""
        ids = [f'sha256:{hashlib.sha256(data).hexdigest()}' for data in layers]
        config = self.blob({'os': 'linux', 'architecture': ARCHITECTURE, 'rootfs': {'type': 'layers', 'diff_ids': ids}})
        blobs = [self.blob(data, mediaType='application/vnd.oci.image.layer.v1.tar') for data in layers]
        made = self.blob({'schemaVersion': 2, 'mediaType': MANIFEST, 'config': config, 'layers': blobs}, mediaType=MANIFEST)
        self.listed += [made | {'annotations': {'io.containerd.image.name': full_name(tag),
                                                'org.opencontainers.image.ref.name': tag.rpartition(':')[2]}} for tag in tags] or [made]
        paths = [f'blobs/{part["digest"].replace(":", "/")}' for part in [config, *blobs]]
        self.saved.append({'Config': paths[0], 'RepoTags': list(tags), 'Layers': paths[1:]})
        return self

    def pack(self):
        self.put('manifest.json', self.saved)
        self.end(*self.listed)
        with tarfile.open(f'{self.path}.tar', 'w') as stream:
            stream.add(self.path, '.')
        return f'{self.path}.tar'


def full_name(tag):
    """As containerd has it."""
    first, slash, _ = tag.partition('/')
    if slash and ('.' in first or ':' in first):
        return tag
    return f'docker.io/{tag}' if slash else f'docker.io/library/{tag}'


UPPER = layer(('d/.wh.a', b''), ('z', b'22'))
