#!/usr/bin/env python3
"""Makes the manual page of one command: what the program says itself, and a part that is written by hand.

usage: make_page.py UMLFS COMMAND VERSION DATE PART OUTPUT

NAME, SYNOPSIS, DESCRIPTION and OPTIONS come from `UMLFS COMMAND --help`, as does EXIT STATUS where it tells. PART has the other sections,
in man(7); its DESCRIPTION and OPTIONS stand behind the program's own.
"""

import pathlib
import re
import sys
import textwrap

sys.dont_write_bytecode = True

import command_help  # noqa: E402  beside this file

ORDER = ["DESCRIPTION", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "NOTES", "EXAMPLES", "SEE ALSO"]
USUAL_STATUS = "0 done, 1 failed, 2 wrong usage."


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("^", "\\(ha").replace("~", "\\(ti")
    return re.sub(r"(?<![A-Za-z])'|'(?![A-Za-z])", r"\\(aq", text)


def bold(text):
    return f"\\fB{text}\\fR"


def prose(text, metavariables):
    """Escaped; what is typed in bold, what stands for something in italics."""
    def mark(match):
        if match["code"]:
            return bold(match["code"])
        if match["flag"]:
            return bold("\\%" + match["flag"])
        return f"\\fI{match['word']}\\fR"

    words = "|".join(sorted(map(re.escape, metavariables), key=len, reverse=True)) or "(?!)"
    pattern = (rf"`(?P<code>[^`]*)`|(?P<flag>(?<![\w\\-])(?:\\-){{1,2}}[a-z][a-z\\-]*\b)|(?<![\w$])(?P<word>{words})(?![\w])")
    marked = re.sub(pattern, mark, escape(text))
    lines = textwrap.wrap(marked, 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(re.sub(r"^(?=[.'])", r"\\&", line) for line in lines)


def arguments(usage):
    """One argument as it is typed: flags bold, what stands for something in italics."""
    text = re.sub(r"(?<![\w\\-])(?:\\-){1,2}[a-z][a-z\\-]*", lambda match: bold(match[0]), escape(usage))
    return re.sub(rf"(?<![\\\w])(?:{command_help.METAVARIABLE})(?!\w)", lambda match: f"\\fI{match[0]}\\fR", text)


def synopsis(found):
    words, depth, word = [], 0, ""
    for char in found.usage + " ":
        depth += (char == "[") - (char == "]")
        if char == " " and depth == 0:
            words.append(word)
            word = ""
        else:
            word += char
    joined = "\n".join(arguments(word).replace(" ", "\\ ") for word in words)
    return f".SY umlfs\\ {found.command}\n{joined}\n.YS"


def option(one, metavariables):
    head = bold(escape(one.heads)) if one.value and one.value.islower() else arguments(one.heads)
    return f".TP\n{head}\n{prose(one.text, metavariables)}"


def read_part(path):
    """{section: its lines}"""
    sections = {}
    for line in path.read_text().splitlines():
        if line.startswith(".SH "):
            name = line.removeprefix(".SH ").strip('"')
            sections[name] = []
        else:
            sections[name].append(line)
    for name in sections:
        if name not in ORDER:
            sys.exit(f"{path}: no place for the section {name}")
    return {name: "\n".join(lines) for name, lines in sections.items()}


def page(found, version, date, part):
    metavariables = set(re.findall(rf"(?<!\w)(?:{command_help.METAVARIABLE})(?!\w)",
                                   " ".join([found.usage, *(one.heads for one in found.options)])))
    own = {
        "DESCRIPTION": "\n.PP\n".join(prose(text, metavariables) for text in found.paragraphs or [found.summary + "."]),
        "OPTIONS": "\n".join(option(one, metavariables) for one in found.options),
        "EXIT STATUS": "" if "EXIT STATUS" in part else prose(
            re.sub(r"^Exit status(: |, )", "", found.exit_status) or USUAL_STATUS, metavariables),
    }
    own["OPTIONS"] += "\n.TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nsay how to use the command"
    lines = [f'.TH UMLFS\\-{found.command.upper()} 1 {date} "umlfs {version}" umlfs', ".SH NAME",
             prose(f"umlfs-{found.command} - {found.summary}", ()), ".SH SYNOPSIS", synopsis(found)]
    for name in ORDER:
        texts = [text for text in (own.get(name), part.get(name)) if text]
        if texts:
            lines += [f'.SH "{name}"' if " " in name else f".SH {name}", "\n.PP\n".join(texts)]
    return re.sub(r"\n\.PP\n(?=\.(TP|SS|PP))", "\n", "\n".join(lines)) + "\n"


def main(umlfs, command, version, date, part, output):
    found = command_help.read(umlfs, command)
    pathlib.Path(output).write_text(page(found, version, date, read_part(pathlib.Path(part))))


if __name__ == "__main__":
    main(*sys.argv[1:])
