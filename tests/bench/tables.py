"""Figures as Markdown."""


def figure(value, places=None):
    """Three digits, or more before the point."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if places is None:
        places = 0 if abs(value) >= 99.95 or value == int(value) else 1 if abs(value) >= 9.995 else 2
    return f"{value:,.{places}f}".replace(",", " ")


def percent(share):
    """A share as a percentage."""
    return f"{share * 100:.0f} %" if share is not None else "-"


def median(values):
    """The middle one, or the mean of the two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def table(columns, rows):
    """A Markdown table: the first column to the left, the others to the right."""
    lines = [f"| {' | '.join(columns)} |", f"|---|{'---:|' * (len(columns) - 1)}"]
    lines += [f"| {' | '.join(figure(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)


def by_name(rows):
    """A table of the in-process program."""
    names = list(next(iter(rows.values())))
    columns = ["", *(name.replace("_us", " µs").replace("_", " ") for name in names)]
    return table(columns, [[row, *(figure(values[name]) for name in names)] for row, values in rows.items()])
