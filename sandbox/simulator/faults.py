"""Everything that is known to go wrong at Benchling, each as a named switch with a counter."""

from __future__ import annotations

import difflib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random

FAULTS: dict[str, str] = {
    "token_401": "/token answers 401 invalid_client",
    "token_429": "/token answers 429",
    "token_503_html": "/token answers 503 with a gateway's HTML page",
    "token_slow": "/token answers after `seconds` (default 6, above the SDK's 5)",
    "token_expires_2": "tokens live 2 seconds and say so",
    "token_revoked": "the call's token is revoked when it arrives: 401 until a new one is fetched",
    "api_429_window": "the app's window is used up at once: 429 with remaining 0",
    "api_429_hidden": "429 although calls remain (a limit that no header shows)",
    "api_500": "500 with the error envelope",
    "api_502": "502 with the error envelope",
    "api_503": "503 with the error envelope",
    "api_504": "504 with the error envelope",
    "api_500_bytes": "500 with a body that is not UTF-8",
    "api_502_html": "502 with a gateway's HTML page",
    "api_503_html": "503 with a gateway's HTML page",
    "api_504_html": "504 with a gateway's HTML page",
    "api_404_html": "404 with an HTML page",
    "api_200_html": "200 with an HTML page (a sign-on form)",
    "api_redirect": "302 to a sign-on page",
    "api_truncated_json": "200 whose JSON ends in the middle",
    "api_wrong_type": "JSON that calls itself text/plain",
    "api_hang": "the answer comes after `seconds` (default 10.5)",
    "api_cut_before": "the connection is reset before the call has any effect",
    "api_cut_after": "the call takes effect, then the connection is reset",
    "api_502_after": "the call takes effect, then a gateway answers 502 with HTML",
    "downtime": "the monthly window: every API call, /token too, answers 503 with HTML",
    "rate_headers_missing": "answers without x-rate-limit headers",
    "rate_headers_legacy": "answers with x-ratelimit-* names",
    "rate_reset_early": "x-rate-limit-reset is one second too small",
    "export_429": "POST /exports answers 429 with calls remaining (too many exports)",
    "export_200": "POST /exports answers 200 instead of 202",
    "task_failed": "the export fails; `message` says why",
    "task_never_ends": "the export runs for ever",
    "task_404": "the task is not there (30 minutes have passed)",
    "task_no_response": "SUCCEEDED without a response",
    "task_no_url": "SUCCEEDED with an empty response",
    "task_unknown_status": "a status that the contract doesn't have (QUEUED, or `status`)",
    "url_expired": "the presigned URL is refused as expired",
    "url_spent": "each presigned URL serves `bytes` (default 1 MiB), then breaks off and has expired",
    "archive_503": "the object store answers 503 SlowDown",
    "archive_truncated": "the archive itself ends after `share` (default 0.7) of it, whole by its Content-Length",
    "archive_cut": "the connection is reset after `bytes` (default half) of the answer",
    "archive_wrong_length": "Content-Length says more than comes",
    "archive_slow": "`seconds` (default 0.2) of pause after each 64 KiB",
    "archive_changed": "each answer comes from another archive: other ETag, other bytes",
    "archive_corrupt": "one byte in the middle of every range is flipped",
    "archive_no_ranges": "Range is ignored: always 200 and the whole",
    "archive_no_length": "no Content-Length (chunked), no ranges",
    "archive_descriptors": "members carry data descriptors instead of sizes in their local headers",
    "archive_missing": "one attachment is left out (still being scanned for viruses)",
    "archive_gallery": "a hostile archive of the gallery: `name`",
    "archive_huge": "one more attachment of `bytes` (default 8 GiB), `deflated` or not",
    "entry_404": "the entry is gone (deleted between webhook and read)",
    "entry_403": "the app may not read the entry",
    "entry_null_schema": "the entry has no schema",
    "entry_5000_notes": "the entry has 5,000 more notes",
    "entry_unknown_types": "the entry has note and link types that the contract doesn't have",
    "entry_non_ascii": "name and notes are full of non-ASCII text",
    "entry_moves": "modifiedAt moves with every read",
    "link_403": "a linked object may not be read (with a subject only that one)",
    "link_404": "a linked object is gone (with a subject only that one)",
    "list_token_null": "listings end with nextToken null",
    "list_token_missing": "listings end without nextToken",
    "events_gap": "events of the last retention period are lost",
    "events_unordered": "events come in another order than createdAt",
    "canvas_403": "the canvas may not be read or changed",
    "canvas_404": "the canvas is archived",
    "canvas_race": "another writer changes the canvas right after each PATCH",
    "jwks_503": "the key server answers 503",
    "jwks_html": "the key server answers 200 with HTML",
    "jwks_slow": "the key server answers after `seconds` (default 5)",
    "jwks_cut": "the key server resets the connection",
    "jwks_rsa_first": "an RSA key stands before the EC key",
    "jwks_oct": "a symmetric key stands before the EC key",
    "jwks_empty": "no keys",
    "jwks_foreign": "only a key that signs nothing",
    "webhook_bad_signature": "the signature is of another body",
    "webhook_wrong_key": "signed by a key that the key server never lists",
    "webhook_no_signature": "no signature header",
    "webhook_not_der": "only the raw signature entry, none in DER",
    "webhook_malformed": "the signature header has no comma",
    "webhook_bad_base64": "the signature is not base64",
    "webhook_two_signatures": "one more DER signature, of another key, in front",
    "webhook_old": "the time stamp is 10 minutes old",
    "webhook_future": "the time stamp is 10 minutes ahead",
    "webhook_wrong_app": "the envelope names another app definition",
    "webhook_replay": "the same request again, byte for byte",
    "webhook_big": "a body of `bytes` (default 10 MB)",
    "webhook_unknown_type": "a message type that the contract doesn't have",
    "webhook_members_missing": "optional and some required members are missing",
    "webhook_members_extra": "members that the contract doesn't have (targetPath, excludedProperties)",
    "webhook_duplicate": "every delivery is sent again, with the same webhook-id",
    "webhook_beta_twin": "the beta form of a canvas message is sent too, under another webhook-id",
    "webhook_reset": "the connection is closed once the body is sent: the answer is lost, the delivery tried again",
    "webhook_reorder": "deliveries are held back and shuffled (`window`, default 5; at the latest after `seconds`, 2)",
    "webhook_delay": "a delivery leaves after `seconds` (default 5)",
    "webhook_lost": "the delivery never leaves",
    "webhook_lost_event": "an edit makes neither webhook nor event",
}


OPTIONS: dict[str, tuple[str, ...]] = {
    "token_slow": ("seconds",),
    "api_hang": ("seconds",),
    "task_failed": ("message",),
    "task_unknown_status": ("status",),
    "url_spent": ("bytes",),
    "archive_truncated": ("share",),
    "archive_cut": ("bytes",),
    "archive_wrong_length": ("bytes",),
    "archive_slow": ("seconds",),
    "archive_missing": ("name",),
    "archive_gallery": ("name",),
    "archive_huge": ("bytes", "deflated", "name"),
    "jwks_slow": ("seconds",),
    "webhook_big": ("bytes",),
    "webhook_reorder": ("window", "seconds"),
    "webhook_delay": ("seconds",),
}
"""What can be said of a switch besides when it strikes; the others have no options."""


class UnknownFault(ValueError):  # noqa: N818 - a person's mistake
    """A name that is in no table; the message names the nearest one."""

    def __init__(self, name: str) -> None:
        near = difflib.get_close_matches(name, FAULTS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        super().__init__(f"there is no fault named {name!r}{hint} (`fault list` shows all)")


class UnknownOption(ValueError):  # noqa: N818 - a person's mistake
    """An option that the switch does not have; the message names those that it has."""


def check_options(name: str, options: Iterable[str]) -> None:
    """Refuse what the switch would not read. Raises UnknownFault, UnknownOption."""
    if name not in FAULTS:
        raise UnknownFault(name)
    known = OPTIONS.get(name, ())
    for option in options:
        if option not in known:
            message = f"{name} has no option {option!r}; it has: {', '.join(known) or 'none'}"
            raise UnknownOption(message)


@dataclass
class Rule:
    """One setting of a switch: for whom, how often, until when, how likely."""

    name: str
    times: int | None = None
    until: float | None = None
    subject: str | None = None
    operation: str | None = None
    chance: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)

    def number(self, option: str, default: float) -> float:
        """A numeric option."""
        return float(self.options.get(option, default))

    def text(self, option: str, default: str) -> str:
        """A text option."""
        return str(self.options.get(option, default))


class Switchboard:
    """The faults that are set. `take` is asked wherever one could strike; it counts what it gives."""

    def __init__(self, dice: Random) -> None:
        self._rules: list[Rule] = []
        self._dice = dice
        self.counts: Counter[str] = Counter()

    def set(self, rule: Rule) -> None:
        """Add a setting; the first one that fits wins. Raises UnknownFault."""
        if rule.name not in FAULTS:
            raise UnknownFault(rule.name)
        self._rules.append(rule)

    def clear(self, name: str | None = None) -> int:
        """Remove the settings of one fault, or all; how many there were. Raises UnknownFault."""
        if name is not None and name not in FAULTS:
            raise UnknownFault(name)
        kept = [rule for rule in self._rules if name is not None and rule.name != name]
        removed = len(self._rules) - len(kept)
        self._rules = kept
        return removed

    def listed(self) -> list[Rule]:
        """The settings that still hold, as far as no clock is asked."""
        return list(self._rules)

    def take(self, name: str, now: float, *, subject: str | None = None, operation: str = "") -> Rule | None:
        """The setting of this fault that strikes here and now, if one does. `now` is real time."""
        if not self._rules:
            return None
        self._rules = [rule for rule in self._rules if rule.until is None or now < rule.until]
        for rule in self._rules:
            if rule.name != name or (rule.subject is not None and rule.subject != subject):
                continue
            if rule.operation is not None and rule.operation != operation:
                continue
            if rule.chance < 1.0 and self._dice.random() >= rule.chance:
                continue
            self._spend(rule)
            self.counts[name] += 1
            return rule
        return None

    def _spend(self, rule: Rule) -> None:
        if rule.times is None:
            return
        rule.times -= 1
        if rule.times <= 0:
            self._rules.remove(rule)
