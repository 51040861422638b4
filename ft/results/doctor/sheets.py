"""Contact sheets, so that a user can look: groups of copies, and images whose labels may be wrong."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from ft.data.images import to_mode
from ft.results.doctor.finding import Finding, file_of
from ft.results.doctor.subject import Subject

CELL, GAP, LINE = 180, 12, 15
# Of a sheet that is as wide as a screen.
COLUMNS = 6
# Rows of cells: more would not be looked at, and a file of 2 MB is enough.
MAX_ROWS = 12
# Of one group.
MAX_COPIES = COLUMNS
INK, GREY, PAPER = "#1a1a1a", "#666666", "white"
COLOURS = {"error": "#c62828", "warning": "#ef6c00", "info": "#9e9e9e"}
COPIES = ("leakage", "conflicting_labels", "near_leakage", "near_conflicts", "duplicates", "near_duplicates")

Cell = tuple[int, str, list[str]]


def draw_duplicates(file: Path, subject: Subject, findings: Sequence[Finding]) -> bool:
    """Each group once, side by side, in the colour of the worst that it is; ``False`` where there is none."""
    by_kind = {finding.kind: finding for finding in findings}
    groups: dict[tuple[int, ...], list[Cell]] = {}
    for finding in (by_kind[kind] for kind in COPIES if kind in by_kind):
        for item, rows in zip(finding.items, finding.rows, strict=True):
            likeness = f"  {item['likeness']:.3f}" if "likeness" in item else ""
            groups.setdefault(rows, [_cell(subject, row, finding, likeness) for row in rows[:MAX_COPIES]])
    return _draw(file, subject, _lines(list(groups.values())))


def draw_labels(file: Path, subject: Subject, findings: Sequence[Finding]) -> bool:
    """The least likely labels, and what they may be instead; ``False`` where there is none."""
    cells: list[Cell] = []
    for finding in findings:
        if finding.kind != "suspicious_labels":
            continue
        for item, (row,) in zip(finding.items, finding.rows, strict=True):
            said = f"{item['label']}, or {item['suggested']}?"
            sure = f"P({item['label']}) = {item['quality']:.3f}"
            cells.append((row, COLOURS[finding.severity], [said, sure, item["file"]]))
    lines = [cells[at : at + COLUMNS] for at in range(0, len(cells), COLUMNS)]
    return _draw(file, subject, lines)


def _cell(subject: Subject, row: int, finding: Finding, note: str) -> Cell:
    told = file_of(subject, row)
    return row, COLOURS[finding.severity], [f"{told['label']}{note}", told["split"], told["file"]]


def _lines(groups: list[list[Cell]]) -> list[list[Cell]]:
    """Groups one after the other, none of them broken."""
    lines: list[list[Cell]] = [[]]
    for group in groups:
        if len(lines[-1]) + len(group) > COLUMNS:
            lines.append([])
        lines[-1] += group
    return lines if lines[0] else []


def _draw(file: Path, subject: Subject, lines: list[list[Cell]]) -> bool:
    if not lines:
        return False
    font = ImageFont.load_default(12)
    height = CELL + 3 * LINE + 2 * GAP
    shown = lines[:MAX_ROWS]
    left_out = sum(map(len, lines)) - sum(map(len, shown))
    sheet = Image.new("RGB", (COLUMNS * (CELL + GAP) + GAP, len(shown) * height + GAP + LINE * bool(left_out)), PAPER)
    pen = ImageDraw.Draw(sheet)
    for down, line in enumerate(shown):
        for across, (row, colour, words) in enumerate(line):
            left, top = GAP + across * (CELL + GAP), GAP + down * height
            sheet.paste(_thumbnail(subject, row), (left, top))
            pen.rectangle((left - 2, top - 2, left + CELL + 1, top + CELL + 1), outline=colour, width=3)
            for number, text in enumerate(words):
                shade = INK if number == 0 else GREY
                pen.text((left, top + CELL + 4 + number * LINE), _fit(text, font), fill=shade, font=font)
    if left_out:
        pen.text((GAP, len(shown) * height + GAP), f"and {left_out:,} more: doctor.json", fill=INK, font=font)
    sheet.save(file, format="PNG", optimize=True)
    return True


def _thumbnail(subject: Subject, row: int) -> Image.Image:
    return ImageOps.pad(to_mode(subject.image(row), "RGB"), (CELL, CELL), color=PAPER)


def _fit(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Names are told apart by their ends."""
    cut = text
    while font.getlength(cut) > CELL and len(cut) > 2:
        cut = "…" + cut[2:]
    return cut
