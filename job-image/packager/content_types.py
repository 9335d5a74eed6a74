"""The content type of every object of a package, by its file name."""

from __future__ import annotations

import functools
import mimetypes
from typing import Final


def content_type(name: str) -> str:
    """Return the content type that a file's name promises."""
    last = name.rpartition("/")[2]
    return _type_of(".".join(["x", *last.split(".")[-2:]]).lower() if "." in last else "x")


@functools.lru_cache(maxsize=1024)
def _type_of(name: str) -> str:
    found, encoding = _TYPES.guess_type(name, strict=True)
    if encoding:
        return {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(
            encoding, "application/octet-stream"
        )
    if found is None:
        return "application/octet-stream"
    return f"{found}; charset=utf-8" if found in {"text/plain", "text/markdown"} else found


_OFFICE: Final = "application/vnd.openxmlformats-officedocument"

# Built in, not the machine's files, so that a package is the same wherever it is made.
_TYPES = mimetypes.MimeTypes()
for _suffix, _type in {
    ".csv": "text/csv",
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".tsv": "text/tab-separated-values",
    ".webp": "image/webp",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
}.items():
    _TYPES.add_type(_type, _suffix)
