"""Search the sources and documents for phrases and names that the project's English avoids.

`python -m tests.project.banned_phrases [PATH ...]` prints one line for each violation and exits with 1 if there is any.
Comments, docstrings and other strings of Python files are searched, and whole Markdown files. `make check` runs it.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("jsafe", "envs_mjx", "algorithms", "rlhf", "sketch", "experiments", "tests", "docs")

PHRASES: tuple[tuple[str, str], ...] = (
    (r"\banew\b", "again, rebuild, retrain, recompute"),
    (r"\bso (often|many)\b", "a number: N times, N samples"),
    (r"\bbesides?\b", "next to, compared with, in addition to"),
    (r"\b(likewise|thereby|lately|whoever)\b", "also, so, recently, if"),
    (r"\bfrom nothing\b", "from scratch"),
    (r"\bkept apart\b", "held-out"),
    (r"\b(go|goes|going|gone|went) on (with|from|where)\b", "resume, continue"),
    (r"\b(tell|tells|told)\b", "report, distinguish, pass"),
    (r"\b(say|says|said|saying)\b", "state, give, report"),
    (r"\bat hand\b", "available"),
    (r"\basked for\b", "requested"),
    (r"\bmay be repeated\b", "repeatable"),
    (r"\b(stands?|stood) (in|on|at|where|among|between)\b", "is, is defined"),
    (r"\bwait(s)? for (itself|themselves|each other) for ?ever\b", "deadlock"),
)
"""Regular expressions, in lower case, with what to write instead."""

OPENINGS = re.compile(r"(What|How|Whether|Where|Who|Whose|All that|Everything that|One that|So that)\b")
"""Words that no docstring begins with: it begins with an imperative verb or a noun phrase."""

NAMES = frozenset(
    """told said found judged begun given asked wanted paid beside apart Artist Companion Field Headed Lot Margined
    Measured Multiplied Rival Searched Seen Slack Told Tries Watch Way HELD nothing beside_1
    beside_2 _found way""".split()
)
"""Identifiers that mean nothing outside the project."""


class Violation(NamedTuple):
    """One phrase or name to replace."""

    path: Path
    line: int
    text: str
    instead: str

    def __str__(self) -> str:
        """Format as an editor's `path:line: message`."""
        return f"{self.path}:{self.line}: {self.text!r} -> {self.instead}"


def in_text(path: Path, text: str, first_line: int = 1) -> Iterator[Violation]:
    """Yield the banned phrases of a text, which starts at `first_line` of its file."""
    joined = re.sub(r"\n[ #]*", lambda gap: "\n", text.lower())
    for pattern, instead in PHRASES:
        for hit in re.finditer(pattern.replace(" ", r"\s"), joined):
            yield Violation(path, first_line + joined.count("\n", 0, hit.start()), hit.group(), instead)


def in_python(path: Path, source: str) -> Iterator[Violation]:
    """Yield the violations in comments, strings, docstrings and names of a Python file."""
    comment, last = "", 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "COMMENT":
            if token.start[0] != last + 1:
                yield from in_text(path, comment, last - comment.count("\n"))
                comment = ""
            comment, last = (f"{comment}\n{token.string}" if comment else token.string), token.start[0]
        elif kind in ("STRING", "FSTRING_MIDDLE"):
            yield from in_text(path, token.string, token.start[0])
    yield from in_text(path, comment, last - comment.count("\n"))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if opening := OPENINGS.match(ast.get_docstring(node) or ""):
                line = node.body[0].lineno
                yield Violation(path, line, opening.group(), "an imperative verb or a noun phrase")
        if (name := _defined_name(node)) in NAMES:
            yield Violation(path, getattr(node, "lineno", 1), name, "the field's word for it")


def _defined_name(node: ast.AST) -> str:
    """Return the identifier that a node defines, or an empty string."""
    match node:
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return name
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case _:
            return ""


def search(paths: Sequence[Path]) -> list[Violation]:
    """Return the violations in files and folders."""
    files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    violations: list[Violation] = []
    for file in files:
        if file.name == Path(__file__).name:
            continue
        if file.suffix == ".py":
            violations += in_python(file, file.read_text())
        elif file.suffix == ".md":
            violations += in_text(file, file.read_text())
    return violations


def main(argv: Sequence[str]) -> int:
    """Print the violations in the given paths, or in the whole project."""
    paths = [Path(arg) for arg in argv] or [*(ROOT / folder for folder in FOLDERS), *ROOT.glob("*.md")]
    violations = search(paths)
    for violation in violations:
        print(violation)
    print(f"{len(violations)} violations of the project's English" if violations else "no banned phrases")
    return bool(violations)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
