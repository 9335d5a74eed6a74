"""What the programs say of themselves: JSON log lines without secrets, and the ports of probes and metrics.

Every line is one JSON object of at most `LINE_BYTES` (the log router of Fargate drops longer ones). A last guard
replaces the query string of every URL and everything that looks like a token, whoever logged it.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import IO, Any, Final

LINE_BYTES: Final = 32_000
HIDDEN: Final = "***"

_QUERY = re.compile(r"(https?://[^\s?\"'<>]+)\?[^\s\"'<>]*")
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{8,}")
_JWT = re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def redact(text: str) -> str:
    """Return the text without query strings of URLs, bearer or basic credentials, and JSON web tokens."""
    text = _QUERY.sub(rf"\1?{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    return _JWT.sub(HIDDEN, text)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON: time, level, logger, message, and what was passed as ``extra``."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update({key: value for key, value in vars(record).items() if key not in _STANDARD})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = "".join(traceback.format_exception(record.exc_info[1]))[-8000:]
        text = redact(json.dumps(line, default=str, ensure_ascii=False))
        if len(text.encode()) <= LINE_BYTES:
            return text
        short = {key: line[key] for key in ("time", "level", "logger")}
        return redact(json.dumps({**short, "message": line["message"][:4000], "cut": True}, ensure_ascii=False))


class TextFormatter(JsonFormatter):
    """Writes a record for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        line = json.loads(super().format(record))
        known = ("time", "level", "logger", "message", "error")
        facts = " ".join(f"{key}={value}" for key, value in line.items() if key not in known)
        error = f"\n{line['error']}" if "error" in line else ""
        return f"{line['time'][11:23]} {line['level']:<7} {line['message']} {facts}".rstrip() + error


def configure_logging(level: str, *, stream: IO[str] | None = None) -> None:
    """Send all logs to one stream (standard error): JSON, or text when it is a terminal.

    Libraries speak from WARNING on: the HTTP ones tell full URLs below that, and kopf tells of every event.
    """
    target = stream if stream is not None else sys.stderr
    destination = logging.StreamHandler(target)
    destination.setFormatter(TextFormatter() if target.isatty() else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [destination]
    root.setLevel(level.upper())
    for chatty in ("kopf", "httpx", "httpcore", "aiohttp.access", "botocore", "boto3", "urllib3", "asyncio"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
