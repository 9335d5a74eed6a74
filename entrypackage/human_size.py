"""Sizes as people read them."""

from __future__ import annotations


def human_size(count: float) -> str:
    """Return a number of bytes in binary units.

    >>> human_size(999), human_size(12_900_000)
    ('999 B', '12.3 MiB')
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"
