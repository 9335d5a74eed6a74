"""App sessions: the progress line in the UI, with its documented limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sandbox.simulator.clock import iso
from sandbox.simulator.wire import Json, bad_request

STYLES = {"NONE", "INFO", "SUCCESS", "WARNING", "ERROR"}
FINAL = {"SUCCEEDED", "FAILED", "COMPLETED_WITH_WARNINGS"}
LONGEST = 2_592_000
CLOSED = "Session has been closed and cannot be updated"


def check_messages(value: Any) -> list[Json]:
    """At most 10 messages of 3 to 200 characters. Raises Refusal (400)."""
    if not isinstance(value, list) or len(value) > 10:
        raise bad_request("messages must be a list of at most 10")
    for message in value:
        if not isinstance(message, dict) or message.keys() - {"content", "style"}:
            raise bad_request("A message has content and style")
        content = message.get("content")
        if not isinstance(content, str) or not 3 <= len(content) <= 200:
            raise bad_request("content must have 3 to 200 characters")
        style = message.get("style", "NONE")
        if not isinstance(style, str) or style not in STYLES:
            raise bad_request("style is not one of the documented ones")
        if content.replace("\\{", "").count("{id:") > 10:
            raise bad_request("A message can hold at most 10 chips")
    return [{"content": message["content"], "style": message.get("style", "NONE")} for message in value]


def check_timeout(value: Any) -> int:
    """1 second to 30 days. Raises Refusal (400)."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LONGEST:
        raise bad_request(f"timeoutSeconds must be 1 to {LONGEST}")
    return value


def check_name(value: Any) -> str:
    """3 to 100 characters. Raises Refusal (400)."""
    if not isinstance(value, str) or not 3 <= len(value) <= 100:
        raise bad_request("name must have 3 to 100 characters")
    return value


@dataclass
class Session:
    """One session."""

    id: str
    app_id: str
    name: str
    timeout: int
    created_at: float
    modified_at: float
    messages: list[Json] = field(default_factory=list)
    final: str | None = None

    def status(self, now: float) -> str:
        """RUNNING, TIMEOUT, or what the app ended it with."""
        if self.final is not None:
            return self.final
        return "TIMEOUT" if now >= self.created_at + self.timeout else "RUNNING"

    def whole(self, now: float) -> Json:
        """The session as the API gives it."""
        return {
            "id": self.id,
            "app": {"id": self.app_id},
            "name": self.name,
            "status": self.status(now),
            "timeoutSeconds": self.timeout,
            "messages": self.messages,
            "createdAt": iso(self.created_at),
            "modifiedAt": iso(self.modified_at),
        }

    def update(self, body: Json, now: float) -> None:
        """Apply a PATCH. Raises Refusal (400)."""
        if self.status(now) != "RUNNING":
            raise bad_request(CLOSED)
        if unknown := body.keys() - {"messages", "status", "timeoutSeconds"}:
            raise bad_request(f"Unknown member: {', '.join(sorted(unknown))}")
        messages = check_messages(body["messages"]) if "messages" in body else self.messages
        timeout = check_timeout(body["timeoutSeconds"]) if "timeoutSeconds" in body else self.timeout
        if timeout < self.timeout:
            raise bad_request("timeoutSeconds can only be increased")
        status = body.get("status", self.final)
        if "status" in body and (not isinstance(status, str) or status not in FINAL):
            raise bad_request("status must be one of the final ones")
        self.messages, self.timeout, self.final = messages, timeout, status
        self.modified_at = max(now, self.modified_at + 1e-6)
