#!/usr/bin/env python3
"""Makes a manual page of one that is written by hand, with what the program and the sources say in the places meant for it.

usage: fill_page.py UMLFS SOURCE_ROOT VERSION DATE PAGE OUTPUT

@version@ @date@    of the project
@commands@          what `UMLFS --help` tells of each command
@struct NAME@       a structure of fs/format.h
@value NAME@        a constant of fs/format.h or fs/record.h
@grammar FILE@      the indented lines of the comment at the top of FILE
"""

import pathlib
import re
import subprocess
import sys
import textwrap

sys.dont_write_bytecode = True

from make_page import escape  # noqa: E402  beside this file

WIDTH = 68


def typed(lines):
    return "\n".join(re.sub(r"^(?=[.'])", r"\\&", escape(line)) for line in lines)


def commands(umlfs):
    text = subprocess.run([umlfs, "--help"], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = re.findall(r"^  ([a-z]+)  +(.*)$", text.split("\n\n")[2], re.MULTILINE)
    return "\n".join(f".TP\n.BR umlfs\\-{name} (1)\n{escape(what)}" for name, what in rows)


def struct(root, name):
    """Long comments stand above what they explain."""
    text = (root / "fs/format.h").read_text()
    body = re.search(rf"^struct {name} \{{\n(.*?)^\}};", text, re.MULTILINE | re.DOTALL)[1]
    lines = []
    for line in body.expandtabs(4).splitlines():
        code, _, comment = line.partition("/*")
        if len(line) > WIDTH and comment:
            lines += textwrap.wrap(f"/*{comment}".replace(" */", "\0*/"), WIDTH, initial_indent="    ", subsequent_indent="       ")
            line = code.rstrip()
        lines.append(line)
    return typed([f"struct {name} {{", *lines, "};"]).replace("\0", " ")


def value(root, name):
    text = (root / "fs/format.h").read_text() + (root / "fs/record.h").read_text()
    return re.search(rf'\b{name}(?: +"([^"]*)"| = (\d+),)', text).expand(r"\1\2")


def grammar(root, path):
    comment = (root / path).read_text().split("*/")[0]
    lines = []
    for line in re.findall(r"^ \*     (.*)$", comment, re.MULTILINE):
        start = len(line) - len(line.lstrip()) + 4
        lines += textwrap.wrap(line, WIDTH, subsequent_indent=" " * start, drop_whitespace=True) if len(line) > WIDTH else [line]
    return typed(lines)


def main(umlfs, root, version, date, page, output):
    root = pathlib.Path(root)
    text = pathlib.Path(page).read_text()
    text = text.replace("@version@", version).replace("@date@", date)
    text = re.sub(r"^@commands@$", lambda _: commands(umlfs), text, flags=re.MULTILINE)
    text = re.sub(r"^@struct (\w+)@$", lambda match: struct(root, match[1]), text, flags=re.MULTILINE)
    text = re.sub(r"@value (\w+)@", lambda match: value(root, match[1]), text)
    text = re.sub(r"^@grammar (\S+)@$", lambda match: grammar(root, match[1]), text, flags=re.MULTILINE)
    pathlib.Path(output).write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
