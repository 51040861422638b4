"""What a human understands in ten seconds: the worst first, a line each; then names."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ft.results.doctor.examine import Diagnosis
from ft.results.doctor.finding import ERROR, INFO, Finding

COLOURS = {"error": "bold red", "warning": "yellow", "info": "dim"}
# More classes than this are told by the smallest and the largest.
MAX_CLASSES = 20


def show(out: Console, diagnosis: Diagnosis, *, examples: int, written: Sequence[Path]) -> None:
    """Prints the summary.

    Args:
        out: Where to.
        diagnosis: What was found.
        examples: Names at most for each finding.
        written: Files to look at.
    """
    _show_counts(out, diagnosis)
    if diagnosis.findings:
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for finding in diagnosis.findings:
            shade = COLOURS[finding.severity]
            table.add_row(f"[{shade}]{finding.severity}[/]", f"[{shade}]{escape(finding.title)}[/]")
        out.print(table)
    else:
        out.print("[green]nothing found[/]")
    for finding in diagnosis.findings:
        if finding.severity != INFO:
            _show_items(out, finding, examples)
    for line in diagnosis.skipped:
        out.print(f"not checked: {line}", style="dim", markup=False, soft_wrap=True)
    for file in written:
        out.print(f"written: {file}", markup=False, soft_wrap=True)


def exit_code(diagnosis: Diagnosis, *, strict: bool) -> int:
    """1 with an error under ``strict``, else 0."""
    return int(strict and any(finding.severity == ERROR for finding in diagnosis.findings))


def describe(item: dict[str, Any]) -> str:
    """An item of ``doctor.json`` in one line."""
    if "files" in item:
        return "  =  ".join(f"{file['file']} ({file['label']}, {file['split']})" for file in item["files"])
    if "why" in item:
        return f"{item['file']}: {item['why']}"
    if "suggested" in item:
        return (
            f"{item['file']}: {item['label']}, rather {item['suggested']} (P({item['label']}) = {item['quality']:.4f})"
        )
    if "split" in item and "class" in item:
        return f"{item['class']} in {item['split']}"
    return f"{item['class']}: {item['count']:,}"


def _show_items(out: Console, finding: Finding, examples: int) -> None:
    if finding.kind == "imbalance":
        return  # its title and the table of counts say all of it
    out.print(f"\n{finding.kind}", style=COLOURS[finding.severity], markup=False)
    for item in finding.items[:examples]:
        out.print(f"  {describe(item)}", markup=False, soft_wrap=True)
    if len(finding.items) > examples:
        out.print(f"  and {len(finding.items) - examples:,} more", style="dim")


def _show_counts(out: Console, diagnosis: Diagnosis) -> None:
    splits = list(diagnosis.images)
    table = Table("", *splits, box=None, padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    classes = list(diagnosis.counts["train"])
    if len(classes) > MAX_CLASSES:
        ordered = sorted(classes, key=lambda name: diagnosis.counts["train"][name])
        classes = [*ordered[: MAX_CLASSES // 2], "...", *ordered[-MAX_CLASSES // 2 :]]
    for name in classes:
        numbers = ("" if name == "..." else f"{diagnosis.counts[split][name]:,}" for split in splits)
        table.add_row(escape(name), *numbers)
    table.add_row("[bold]all images[/]", *(f"[bold]{diagnosis.images[split]:,}[/]" for split in splits))
    out.print(table)
    out.print()
