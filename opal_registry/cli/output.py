"""Where results go: Rich tables for people, plain text for pipes, one JSON document for machines."""

import contextlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from opal_registry.errors import OpalError

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table to show.

    Args:
        columns: The headings; one that starts with ``>`` is aligned to the right.
        rows: One text per column.
        title: What stands above it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    title: str = ""


def counted(number: int, word: str) -> str:
    """So many of something.

    Example:
        >>> counted(1, "table"), counted(2, "table")
        ('1 table', '2 tables')
    """
    return f"{number} {word}{'' if number == 1 else 's'}"


class Output:
    """Prints the result of one command.

    Args:
        as_json: Print one JSON document, and nothing else, to stdout.
        quiet: Print nothing but errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet

    def show(self, document: Any, *parts: "Sheet | str") -> None:
        """Print a result.

        Args:
            document: What machines get.
            *parts: What people get, one below the other.
        """
        if self.as_json:
            _print_json(document)
        elif not self.quiet:
            for part in parts:
                self._print(part)

    def error(self, error: OpalError) -> None:
        """Print an error: to stderr for people, with ``--json`` also as a document to stdout."""
        if self.as_json:
            _print_json({"error": error_document(error)})
        self.complain(error)

    def complain(self, error: OpalError) -> None:
        """Print an error beside a result, which says in its own document what it lacks."""
        print("\n".join(f"error: {problem}" for problem in error.problems), file=sys.stderr)  # noqa: T201

    def note(self, text: str) -> None:
        """Say something beside the result, to stderr, where a machine that reads the result is not disturbed."""
        if not self.quiet:
            print(text, file=sys.stderr)  # noqa: T201

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show what is being done while it is being done, if a person watches."""
        if self.quiet or self.as_json or not sys.stderr.isatty():
            yield
            return
        with _console(sys.stderr).status(text):
            yield

    def _print(self, part: "Sheet | str") -> None:
        if isinstance(part, str):
            print(part)  # noqa: T201
        elif part.rows:
            _print_sheet(part)


def error_document(error: OpalError) -> dict[str, Any]:
    """An error as the document that ``--json`` prints."""
    problems = [{"what": p.what, "where": p.where, "mend": p.mend} for p in error.problems]
    return {"kind": type(error).__name__, "exit_code": error.exit_code, "problems": problems}


def _print_json(document: Any) -> None:
    plain = (sys.stdout.encoding or "").casefold().replace("-", "") != "utf8"
    print(json.dumps(document, indent=2, ensure_ascii=plain))  # noqa: T201


def _console(file: Any) -> "Console":
    from rich.console import Console  # a tenth of a second that nobody pays who is no terminal

    return Console(file=file, highlight=False)


def _print_sheet(sheet: Sheet) -> None:
    lines = _draw(sheet) if sys.stdout.isatty() else [*filter(None, [sheet.title]), *_align(sheet)]
    print("\n".join(line.rstrip() for line in lines))  # noqa: T201


def _draw(sheet: Sheet) -> list[str]:
    """The lines of a sheet for a terminal: a narrow one breaks those of the last column, but loses nothing."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=sheet.title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for heading in sheet.columns:
        justify: Literal["right", "left"] = "right" if heading.startswith(">") else "left"
        wraps = heading == sheet.columns[-1] and justify == "left"
        table.add_column(heading.removeprefix(">"), justify=justify, no_wrap=not wraps, overflow="fold")
    for row in sheet.rows:
        table.add_row(*(Text(cell) for cell in row))
    console, widths = _console(sys.stdout), _find_widths(sheet)
    console.width = max(console.width, sum(widths[:-1]) + min(widths[-1], 20) + 3 * len(widths))
    with console.capture() as captured:
        console.print(table)
    return captured.get().splitlines()


def _align(sheet: Sheet) -> Iterator[str]:
    """The lines of a sheet for a pipe: nothing is broken or drawn, and nothing imported that draws."""
    widths = _find_widths(sheet)
    for row in ([heading.removeprefix(">") for heading in sheet.columns], *sheet.rows):
        blanks = [" " * (width - _width(cell)) for width, cell in zip(widths, row, strict=True)]
        cells = zip(sheet.columns, blanks, row, strict=True)
        yield "  ".join(blank + cell if heading.startswith(">") else cell + blank for heading, blank, cell in cells)


def _find_widths(sheet: Sheet) -> list[int]:
    """How wide each column of a sheet is."""
    headings = [heading.removeprefix(">") for heading in sheet.columns]
    return [max(map(_width, cells)) for cells in zip(headings, *sheet.rows, strict=True)]


def _width(text: str) -> int:
    """How many columns of a terminal a text needs: Chinese characters need two each."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
