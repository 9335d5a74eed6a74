"""A small, valid PDF that differs in every export, as Benchling's do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def _escape(line: str) -> str:
    latin = line.encode("latin-1", "replace").decode("latin-1")
    return latin.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def render(lines: Sequence[str], *, export_id: str, size: int) -> bytes:
    """One page with the lines, at least `size` bytes long. The export's id is in the document and its /ID."""
    shown = [*lines, f"export {export_id}"]
    text = "BT /F1 9 Tf 40 800 Td 11 TL " + " ".join(f"({_escape(line)}) '" for line in shown) + " ET"
    page = text.encode("latin-1", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    document = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(document))
        document += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    row = f"% {hashlib.sha256(export_id.encode()).hexdigest()}\n".encode()
    document += row * (max(0, size - len(document)) // len(row))
    start = len(document)
    document += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    document += b"".join(b"%010d 00000 n \n" % place for place in places)
    mark = hashlib.md5(export_id.encode(), usedforsecurity=False).hexdigest().encode()
    document += b"trailer\n<< /Size %d /Root 1 0 R /ID [<%s> <%s>] >>\n" % (len(objects) + 1, mark, mark)
    return bytes(document + b"startxref\n%d\n%%%%EOF\n" % start)
