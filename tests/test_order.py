"""The shape of the library: one total order of modules, libraries behind one door each, no overgrown file."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
FS = ROOT / "fs"
PUBLIC = ROOT / "include" / "umlfs"

# A file may include only modules to its left. A public header stands where its module stands.
ORDER = """
cleanup log progress proc io pool map ranges checksum worker
format inode xattr_set xattr_file record
index index_compare index_build scan journal content removals handles manifest commit mark
layer_dir table_map layer_table layer_table_write layer layer_change base stack quota session session_part session_write recovery
pin tree tree_attr tree_dir tree_file tree_read tree_sync tree_rename
store_base store_lock merge store snapshot users mounts mount_table unmount standing
finding findings check_index check_base check_tree check_table check_content check_mend check_session check verify
import_report import_member import_acl import_header import_meter import_source import_gzip import_file import_target_own import_target import_remove import_layer
import_place import_stream import_archive import_blobs import_digest import_image import_dir import
request control_socket control
state names diff_compare diff_set diff_match diff
state_walk export_acl export_tar export_layer export base_commit
confine device unmounter crash
scratch programs uml mconsole guest initramfs
crew follow twin notify fuse_ops_attr fuse_ops_reply fuse_ops_group fuse_ops_dir fuse_ops_warm fuse_ops_sync fuse_ops_file fuse_ops
mountpoint serve_control serve_args serve_settle serve
""".split()

# Files that make one thing with the one whose header they share.
ONE_THING = {
    ("store_base", "store"), ("merge", "store"), ("fuse_ops_reply", "fuse_ops"),
    ("import_meter", "import"), ("import_target", "import"), ("diff_compare", "diff"), ("diff_match", "diff"),
    ("export_tar", "export"), ("import_target_own", "import_target"), ("serve_args", "serve"),
    ("table_map", "layer"), ("layer_table", "layer"), ("layer_table_write", "layer"), ("mounts", "mount_table"),
}

DOORS = {
    "fuse_lowlevel.h": {"notify", "fuse_ops_attr", "fuse_ops_reply", "serve_settle", "serve"},
    "archive.h": {"initramfs", *(name for name in ORDER if name.startswith(("import", "export")))},
    "archive_entry.h": {"initramfs", *(name for name in ORDER if name.startswith(("import", "export")))},
    "xxhash.h": {"checksum"},
    "jansson.h": {"import_image"},
    "nettle/sha2.h": {"import_digest"},
    "zlib.h": {"import_gzip"},
}

LONGEST_FILE = 500
LONGEST_FUNCTION = 60

sources = sorted([*FS.glob("*.[ch]"), *PUBLIC.glob("*.h")])


def module_of(path):
    return pathlib.Path(path).stem


def includes(path):
    return re.findall(r'^#include ["<]([^">]+)[">]', path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("path", sources, ids=lambda p: p.name)
def test_every_module_has_its_place(path):
    assert module_of(path) in ORDER


@pytest.mark.parametrize("path", sources, ids=lambda p: p.name)
def test_a_file_includes_only_modules_to_its_left(path):
    own = module_of(path)
    for name in includes(path):
        other = module_of(name)
        ours = (FS / name).exists() or name.startswith("umlfs/")
        if not ours or other == own or (own, other) in ONE_THING:
            continue
        assert ORDER.index(other) < ORDER.index(own), f"{path.name} includes {name}"


@pytest.mark.parametrize("path", sources, ids=lambda p: p.name)
def test_each_library_has_one_door(path):
    for name in includes(path):
        assert module_of(path) in DOORS.get(name, {module_of(path)}), f"{path.name} includes <{name}>"


def test_programs_include_public_headers_only():
    for path in (ROOT / "tools").glob("*.[ch]"):
        for name in includes(path):
            assert not (FS / name).exists() or (ROOT / "tools" / name).exists(), f"{path.name} includes {name}"


@pytest.mark.parametrize("path", [*sources, *sorted((ROOT / "tools").glob("*.[ch]"))], ids=lambda p: p.name)
def test_files_and_functions_stay_small(path):
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST_FILE
    start = None
    for number, line in enumerate(lines):
        if line == "{":
            start = number
        if line == "}" and start is not None:
            assert number - start + 1 <= LONGEST_FUNCTION, f"the function that ends in line {number + 1}"
            start = None


@pytest.mark.parametrize("path", [p for p in sources if p.suffix == ".c"], ids=lambda p: p.name)
def test_every_source_says_what_it_is(path):
    head = path.read_text().split("*/")[0]
    assert head.startswith(f"/*\n * {module_of(path)}: ")
    assert "\n * Invariant: " in head
    assert re.search(r"^ \* Called by ", head, re.MULTILINE)


@pytest.mark.parametrize("path", [p for p in sources if p.match("import_*.c")], ids=lambda p: p.name)
def test_a_file_of_import_names_its_callers(path):
    text = path.read_text()
    told = re.search(r" Called by (.*?)\.\n", text, re.DOTALL)[1]
    if "the files of import" in told:
        return
    exported = re.findall(r"^(?!static)[a-z][^;{(]*?\b(\w+)\(", text, re.MULTILINE)
    callers = {other.stem for other in FS.glob("*.c")
               if other != path and re.search(rf"\b({'|'.join(exported)})\(", other.read_text())}
    assert set(re.findall(r"\w+", told)) - {"and"} == callers
