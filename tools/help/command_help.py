"""What `umlfs COMMAND --help` says, in parts: manual pages and completions are made of it, so that none says anything else."""

import dataclasses
import re
import subprocess

METAVARIABLE = r"[A-Z][A-Z_-]*[A-Z]|[NP]"


@dataclasses.dataclass
class Option:
    heads: str      # as written: "-q, --quiet", "-o posix"
    text: str

    @property
    def flags(self):
        """["-q", "--quiet"]"""
        return re.findall(r"(?:^|(?<=, ))--?[a-z][a-z-]*", self.heads)

    @property
    def value(self):
        """What follows the flags: "FILE", or "" when nothing does."""
        return re.sub(r"^(--?[a-z][a-z-]*(, )?)+ ?", "", self.heads)


@dataclasses.dataclass
class Help:
    command: str
    usage: str          # the arguments, one line
    summary: str
    paragraphs: list    # prose
    options: list
    exit_status: str    # "" when the help does not tell


def words_of(usage):
    """The arguments that stand behind the options, without brackets: ["BASE", "SESSION", "MOUNTPOINT"]."""
    without = re.sub(r"\[-[^][ -][^][]*(\[[^][]*\][^][]*)*\](\.\.\.)?|\[--[^][ ][^][]*(\[[^][]*\][^][]*)*\](\.\.\.)?|\[OPTION\.\.\.\]",
                     "", usage)
    return re.sub(r"[][]", "", without).split()


def parse_options(command, lines):
    options = []
    for line in lines:
        start = re.match(r"  (-\S.*?)(?:  +(\S.*))?$", line)
        if start:
            options.append(Option(start[1], start[2] or ""))
        elif line.startswith("   ") and options:
            options[-1].text = f"{options[-1].text} {line.strip()}".strip()
        else:
            raise SystemExit(f"umlfs {command} --help: neither an option nor the rest of one: {line}")
    for option in options:
        if not option.text:
            raise SystemExit(f"umlfs {command} --help: two spaces are needed behind the option: {option.heads}")
    return options


def parse(command, text):
    blocks = text.rstrip("\n").split("\n\n")
    usage = " ".join(blocks[0].split()).removeprefix(f"usage: umlfs {command} ")
    found = Help(command, usage, " ".join(blocks[1].split()), [], [], "")
    for block in blocks[2:]:
        if block.startswith("  -"):
            found.options += parse_options(command, block.split("\n"))
        elif block.startswith("Exit status"):
            found.exit_status = " ".join(block.split())
        else:
            found.paragraphs.append(" ".join(block.split()))
    return found


def read(program, command):
    done = subprocess.run([program, command, "--help"], stdout=subprocess.PIPE, text=True, check=True)
    return parse(command, done.stdout)
