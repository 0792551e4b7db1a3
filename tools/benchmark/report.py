"""What was measured, as tables or as JSON."""

import json
import os
import platform
import statistics

from . import places
from .processes import run
from .work import REQUEST


def summary(values):
    if not values:
        return {"values": [], "median": None, "min": None, "max": None}
    return {"values": [round(value, 3) for value in values], "median": round(statistics.median(values), 3),
            "min": round(min(values), 3), "max": round(max(values), 3)}


def short(number):
    """Three digits that count."""
    if number is None:
        return "-"
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def spread(row):
    return f"{short(row['min'])}..{short(row['max'])}"


def aligned(rows):
    """Text in columns: the first to the left, all others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) if column == 0 else cell.rjust(width)
                       for column, (cell, width) in enumerate(zip(row, widths))).rstrip() for row in rows]
    return "\n".join(lines)


class Results:
    def __init__(self, program, rounds):
        self.about = {"schema": 1, "umlfs": run(program, "--version")[1].strip(), "kernel": platform.release(),
                      "cpus": len(os.sched_getaffinity(0)), "load": round(os.getloadavg()[0], 2), "rounds": rounds}
        self.goals = []
        self.works = []

    @property
    def failed(self):
        """True when a case could not be measured; another file system that cannot do a work is no failure."""
        return any(row["problem"] for row in self.goals) or any(row["umlfs"]["problem"] for row in self.works)

    def add_goal(self, goal, values, problem):
        row = {"case": goal.name, "title": goal.title, "unit": goal.unit, **summary(values), "limit": goal.limit,
               "problem": problem, "met": None}
        if row["median"] is not None and goal.limit is not None:
            row["met"] = row["median"] <= goal.limit
        self.goals.append(row)
        if goal.ratio_to:
            self._add_ratio(goal, row)

    def _add_ratio(self, goal, row):
        other = next(other for other in self.goals if other["case"] == goal.ratio_to)
        values = [row["median"] / other["median"]] if row["median"] and other["median"] else []
        ratio = {"case": f"{goal.name}-ratio", "title": f"{goal.name} : {goal.ratio_to}", "unit": "x",
                 **summary(values), "limit": goal.ratio_limit, "problem": None, "met": None}
        if values:
            ratio["met"] = values[0] <= goal.ratio_limit
        self.goals.append(ratio)

    def add_work(self, work, values, problems, requests):
        row = {"case": work.name, "title": work.title, "unit": "ms", "requests": requests}
        for place in values:
            row[place] = {**summary(values[place]), "problem": problems.get(place)}
        self.works.append(row)

    def as_json(self):
        return json.dumps({**self.about, "goals": self.goals, "comparison": self.works}, indent=1)

    def as_tables(self):
        about = self.about
        parts = [f"{about['umlfs']}, Linux {about['kernel']}, {about['cpus']} CPUs, load {about['load']} at the start; "
                 f"medians of {about['rounds']} rounds"]
        if self.goals:
            parts.append(self._goal_table())
        if self.works:
            parts.append(self._work_table())
        problems = self._problems()
        if problems:
            parts.append(problems)
        return "\n\n".join(parts)

    def _goal_table(self):
        rows = [["GOALS", "median", "min..max", "unit", "at most", ""]]
        verdicts = {True: "met", False: "MISSED", None: ""}
        for row in self.goals:
            verdict = "failed" if row["problem"] else verdicts[row["met"]]
            limit = "" if row["limit"] is None else f"{row['limit']:g}"
            rows.append([row["title"], short(row["median"]), spread(row), row["unit"], limit, verdict])
        return aligned(rows)

    def _work_table(self):
        names = [kind.name for kind in places.KINDS if kind.name in self.works[0]]
        each = self._request_ms()
        rows = [["THE SAME WORK, ms", *names, "(min..max)", ": overlayfs", ": fuse-ov.", "requests", *(["alone"] if each else [])]]
        for row in self.works:
            ours = row["umlfs"]
            requests = answered(row)
            rows.append([row["title"], *(cell(row[name]) for name in names), f"({spread(ours)})",
                         ratio(ours, row.get("overlayfs")), ratio(ours, row.get("fuse-overlayfs")), str(requests),
                         *([short(requests * each)] if each else [])])
        return aligned(rows)

    def _request_ms(self):
        """What a request takes that asks for next to nothing; None when that was not measured."""
        for row in self.works:
            ours, plain = row["umlfs"]["median"], row["directory"]["median"]
            if row["case"] == REQUEST and answered(row) and ours and plain:
                return (ours - plain) / answered(row)
        return None

    def _problems(self):
        lines = [f"{row['case']}: {row['problem']}" for row in self.goals if row["problem"]]
        for row in self.works:
            lines += [f"{row['case']} on {name}: {row[name]['problem']}" for name in row
                      if isinstance(row[name], dict) and row[name].get("problem")]
        return "\n".join(lines)


def answered(row):
    """How many FUSE requests there were that somebody waited for."""
    return sum(n for kind, n in (row["requests"] or {}).items() if kind != "forget")


def cell(figures):
    if not figures["problem"]:
        return short(figures["median"])
    return figures["problem"] if figures["problem"].isupper() else "failed"


def ratio(ours, theirs):
    """How many times as long ours takes."""
    if not theirs or theirs["problem"] or ours["problem"]:
        return "-"
    return f"{ours['median'] / theirs['median']:.2f}"
