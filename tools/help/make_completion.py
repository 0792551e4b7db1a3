#!/usr/bin/env python3
"""Makes the completion of one shell of what the program says itself.

usage: make_completion.py bash|zsh|fish UMLFS TEMPLATE OUTPUT COMMAND...

Kinds of words: directory, session, mounted, snapshot, state, file, command, "" (anything), or ",WORD,WORD" (some of these, with commas between them).
"""

import pathlib
import re
import sys

sys.dont_write_bytecode = True

import command_help  # noqa: E402  beside this file


def kind_of_argument(command, word):
    if word in ("NAME", "FROM", "TO"):
        return "" if command == "snapshot" else "snapshot"
    if word == "SESSION|MOUNTPOINT":
        return "mounted"
    if word in ("BASE", "MOUNTPOINT"):
        return "directory"
    if word == "SESSION@NAME":
        return "state"
    if "SESSION" in word:
        return "session"
    return "command" if word == "COMMAND" else "file"


def kind_of_value(found, option):
    choices = [value for one in found.options if one.flags == option.flags and one.value.islower()
               for value in one.value.split(", ")]
    if not choices and (told := re.match(r"([a-z-]+(?:, [a-z-]+)+):", option.text)):
        choices = told[1].split(", ")
    if choices:
        return "," + ",".join(choices)
    if option.flags[-1] in ("--snapshot", "--diff"):
        return "snapshot"
    return "file" if re.match("FILE|HOST", option.value) else "any"


def arguments(found):
    words = [word for word in command_help.words_of(found.usage) if word != "ARG..."]
    return [kind_of_argument(found.command, word) if word != "--" else "--" for word in words]


def options(found):
    """[(flags, whether a word follows, its kind, what it does)], each flag once."""
    seen, rows = set(), []
    for one in found.options:
        if not seen & set(one.flags):
            seen |= set(one.flags)
            kind = kind_of_value(found, one) if one.value else ""
            text = one.text if not one.value.islower() else "how to mount"
            rows.append((one.flags, bool(one.value) and not one.value.startswith("["), kind, text))
    return rows + [(["-h", "--help"], False, "", "say how to use the command")]


def short(text):
    """The first words of what an option does."""
    return re.split(r"[;:{]| \(|\. |, then", text)[0].strip()[:70].replace("'", "’").replace("[", "(").replace("]", ")")


def bash(commands):
    lines = []
    for found in commands:
        flags = " ".join(flag for row in options(found) for flag in row[0])
        lines.append(f"\t{found.command})\n\t\toptions='{flags}'")
        kinds = " ".join(f"'{kind}'" for kind in arguments(found))
        lines.append(f"\t\targuments=({kinds})")
        values = " ".join(f"[{flag}]='{kind}'" for flags, takes, kind, _ in options(found) if takes for flag in flags)
        lines.append(f"\t\tvalues=({values})\n\t\t;;")
    return " ".join(found.command for found in commands), "\n".join(lines)


ZSH = {"directory": "_files -/", "session": "_files -/", "mounted": "_umlfs_mounted", "snapshot": "_umlfs_snapshots",
       "state": "_umlfs_states", "file": "_files",
       "command": "_command_names -e", "": " ", "any": " "}


def zsh_action(kind):
    return f"_values -s , word {kind[1:].replace(',', ' ')}".replace("=", "\\=") if kind.startswith(",") else ZSH[kind]


def zsh(commands):
    lines = []
    for found in commands:
        specs = []
        for flags, takes, kind, text in options(found):
            more = f":value:{zsh_action(kind)}" if takes else ""
            for flag in flags:
                sign = "=" if takes and flag.startswith("--") else "=-" if kind and not takes else ""
                optional = f"::value:{zsh_action(kind)}" if kind and not takes else ""
                specs.append(f"'{flag}{sign}[{short(text)}]{more}{optional}'")
        for number, kind in enumerate([kind for kind in arguments(found) if kind != "--"], 1):
            last = found.usage.endswith("ARG...]")
            specs.append(f"'*:::command:_normal'" if kind == "command" and last else f"'{number}:argument:{zsh_action(kind)}'")
        joined = " \\\n\t\t\t\t".join(specs)
        lines.append(f"\t\t{found.command})\n\t\t\t_arguments -s {joined}\n\t\t\t;;")
    told = "\n".join(f"\t\t'{found.command}:{short(found.summary)}'" for found in commands)
    return told, "\n".join(lines)


FISH = {"directory": "(__fish_complete_directories)", "session": "(__fish_complete_directories)",
        "state": "(__umlfs_states)", "mounted": "(__umlfs_mounted; __fish_complete_directories)", "snapshot": "(__umlfs_snapshots)"}


def fish(commands):
    told, lines = [], []
    for found in commands:
        told.append(f"complete -c umlfs -n __fish_use_subcommand -a {found.command} -d '{short(found.summary)}'")
        within = f"complete -c umlfs -n '__fish_seen_subcommand_from {found.command}'"
        for flags, takes, kind, text in options(found):
            names = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in flags)
            more = {"": "", "file": " -r -F", "any": " -x"}.get(kind, " -x")
            if kind.startswith(","):
                more = f" -x -a '{kind[1:].replace(',', ' ')}'"
            elif kind == "snapshot":
                more = " -x -a '(__umlfs_snapshots)'" if takes else " -a '(__umlfs_snapshots)'"
            lines.append(f"{within} {names}{more} -d '{short(text)}'")
        for kind in dict.fromkeys(arguments(found)):
            if kind == "file":
                lines.append(f"{within} -F")
            elif kind in FISH:
                lines.append(f"{within} -a '{FISH[kind]}'")
    return "\n".join(told), "\n".join(lines)


def main(shell, umlfs, template, output, *names):
    told, table = {"bash": bash, "zsh": zsh, "fish": fish}[shell]([command_help.read(umlfs, name) for name in names])
    text = pathlib.Path(template).read_text()
    pathlib.Path(output).write_text(text.replace("@commands@", told).replace("@table@", table))


if __name__ == "__main__":
    main(*sys.argv[1:])
