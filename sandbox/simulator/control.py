"""The Python side of the control API: what tests and the demo drive a running simulator with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import httpx

if TYPE_CHECKING:
    from types import TracebackType

    from sandbox.simulator.wire import Json


class ControlRefused(Exception):  # noqa: N818 - the simulator's own sentence
    """The simulator didn't do it; the message says why."""


class TenantControl:
    """An async client of one simulator. `url` is the ready line's `control`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.AsyncClient(base_url=url.rstrip("/") + "/", timeout=60.0, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def get(self, verb: str, **parameters: str | int) -> Any:
        """Read something. Raises ControlRefused."""
        return self._checked(await self._client.get(verb, params=parameters))

    async def act(self, verb: str, **members: Any) -> Any:
        """Do something. Raises ControlRefused."""
        given = {name: value for name, value in members.items() if value is not None}
        return self._checked(await self._client.post(verb, json=given))

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        body = answer.json()
        if answer.status_code != 200:
            raise ControlRefused(body["error"])
        return body

    # -- entries ----------------------------------------------------------------------------------------------

    async def create_entry(
        self,
        name: str = "Simulated experiment",
        *,
        text: str | None = None,
        fields: dict[str, Any] | None = None,
        attachments: list[Json] | None = None,
        links: list[str] | None = None,
        canvas: bool = False,
        silent: bool = False,
        schemaless: bool = False,
        display_id: str | None = None,
        export_seconds: float | None = None,
    ) -> Json:
        """A new entry: `{id, displayId, name, modifiedAt, attachments, canvases, exports, ...}`.

        `attachments`: `{name, size, deflated}` or `{name, content}`. `silent`: no webhook, no event.
        """
        created = await self.create_entries(
            1, name, text=text, fields=fields, attachments=attachments, links=links, canvas=canvas, silent=silent,
            schemaless=schemaless, display_id=display_id, export_seconds=export_seconds,
        )  # fmt: skip
        return created[0]

    async def create_entries(self, count: int, name: str = "Simulated experiment", **members: Any) -> list[Json]:
        """Several entries alike; members as in `create_entry`."""
        created: list[Json] = await self.act("entries", count=count, name=name, **members)
        return created

    async def entry(self, identifier: str) -> Json:
        """One entry, by id or display id."""
        found: Json = await self.get("entry", id=identifier)
        return found

    async def entries(self) -> list[Json]:
        """All entries."""
        found: list[Json] = await self.get("entries")
        return found

    async def edit_entry(
        self,
        entry: str,
        *,
        kind: str = "fields",
        count: int = 1,
        fields: dict[str, Any] | None = None,
        text: str | None = None,
        name: str | None = None,
        display_id: str | None = None,
        export_seconds: float | None = None,
    ) -> Json:
        """Change an entry `count` times.

        `kind`: fields, review (webhook and event); body, rename, archive, unarchive, delete (neither); nothing.
        """
        changed: Json = await self.act(
            "edit", entry=entry, kind=kind, count=count, fields=fields, text=text, name=name,
            display_id=display_id, export_seconds=export_seconds,
        )  # fmt: skip
        return changed

    async def attach(
        self,
        entry: str,
        name: str,
        size: int = 1000,
        *,
        deflated: bool = False,
        content: str | None = None,
        replace: bool = False,
    ) -> Json:
        """Attach a file (or `replace` the bytes of the one of this name): no webhook."""
        changed: Json = await self.act(
            "attach", entry=entry, name=name, size=size, deflated=deflated, content=content, replace=replace
        )
        return changed

    async def link(self, entry: str, kind: str, name: str | None = None) -> str | None:
        """Mention a new object of a link type; its id."""
        made: Json = await self.act("link", entry=entry, kind=kind, name=name)
        identifier: str | None = made["id"]
        return identifier

    async def burst(self, events: int = 1000, entries: int = 100, seconds: float = 20.0) -> Json:
        """Begin field edits, spread over entries and over so many real seconds."""
        made: Json = await self.act("burst", events=events, entries=entries, seconds=seconds)
        return made

    # -- canvases and the app ---------------------------------------------------------------------------------

    async def insert_canvas(self, entry: str, *, initialized: bool = False) -> Json:
        """A canvas in an entry: v2.canvas.created, or (`initialized`) v2.canvas.initialized without a canvas."""
        made: Json = await self.act("canvases", entry=entry, initialized=initialized)
        return made

    async def canvases(self) -> list[Json]:
        """All canvases with their buttons."""
        found: list[Json] = await self.get("canvases")
        return found

    async def canvas(self, identifier: str) -> Json:
        """One canvas (by its id or its entry's), with `buttons` and the `history` of its writes."""
        found: Json = await self.get("canvas", id=identifier)
        return found

    async def click(self, canvas: str, button: str, *, count: int = 1, force: bool = False) -> Json:
        """Click a button of a canvas; `force` clicks what isn't there or is disabled too."""
        clicked: Json = await self.act("click", canvas=canvas, button=button, count=count, force=force)
        return clicked

    async def tell_app(self, kind: str) -> Json:
        """An app life cycle message: install, activate, deactivate, configure."""
        told: Json = await self.act("app", kind=kind)
        return told

    # -- faults, clock, limits --------------------------------------------------------------------------------

    async def set_fault(
        self,
        name: str,
        /,
        *,
        times: int | None = None,
        seconds: float | None = None,
        subject: str | None = None,
        operation: str | None = None,
        chance: float = 1.0,
        **options: Any,
    ) -> Json:
        """Set a switch: for so many times, real seconds, one entry, canvas or task (`subject`), one operation
        (an OpenAPI operation id; for webhooks the message type). Options by name, as `fault list` says."""
        made: Json = await self.act(
            "faults", name=name, times=times, seconds=seconds, subject=subject, operation=operation,
            chance=chance, options=options,
        )  # fmt: skip
        return made

    async def clear_faults(self, name: str | None = None) -> int:
        """Switch one fault off, or all; how many settings there were."""
        cleared: Json = await self.act("faults/clear", name=name)
        count: int = cleared["cleared"]
        return count

    async def faults(self) -> Json:
        """`{known: {name: description}, set: [...], counts: {name: n}}`."""
        found: Json = await self.get("faults")
        return found

    async def advance_clock(self, seconds: float) -> Json:
        """Move tenant time forward; `{tenant, real, scale}`."""
        moved: Json = await self.act("clock", advance=seconds)
        return moved

    async def scale_clock(self, scale: float) -> Json:
        """Tenant seconds per real second from now on; 0 stops the clock."""
        moved: Json = await self.act("clock", scale=scale)
        return moved

    async def spend_tenant(self, calls: int) -> Json:
        """Let other apps use up calls of the hidden tenant budget."""
        left: Json = await self.act("load", calls=calls)
        return left

    # -- webhooks, tokens, keys -------------------------------------------------------------------------------

    async def route_webhooks(
        self, url: str | None = None, *, stable: bool | None = None, retries: str | None = None
    ) -> Json:
        """Where deliveries go, by STABLE or SUFFIXED routing, and the retry profile (none, svix, aggressive)."""
        routed: Json = await self.act("webhook", url=url, stable=stable, retries=retries)
        return routed

    async def webhooks(self, *, type: str | None = None, subject: str | None = None) -> list[Json]:  # noqa: A002
        """Deliveries with all their attempts: `{webhook_id, type, subject, state, attempts, message}`."""
        given = {"type": type, "subject": subject}
        found: list[Json] = await self.get("webhooks", **{name: value for name, value in given.items() if value})
        return found

    async def release_webhooks(self) -> int:
        """Send what reordering holds back."""
        released: Json = await self.act("webhooks/release")
        count: int = released["released"]
        return count

    async def rotate_keys(self, *, keep_old: bool = True) -> str:
        """Sign with another key; the old one stays listed or not."""
        made: Json = await self.act("keys/rotate", keep_old=keep_old)
        key: str = made["key"]
        return key

    async def revoke_tokens(self) -> int:
        """Revoke all access tokens."""
        revoked: Json = await self.act("tokens/revoke")
        count: int = revoked["revoked"]
        return count

    async def change_secret(self, secret: str) -> None:
        """Give the app another client secret."""
        await self.act("secret", secret=secret)

    # -- what happened ----------------------------------------------------------------------------------------

    async def requests(self, *, operation: str | None = None, caller: str | None = None, last: int = 0) -> list[Json]:
        """The request log, oldest first: who (app, number of the token, user agent) asked what, and the answer."""
        given = {"operation": operation, "caller": caller}
        kept = {name: value for name, value in given.items() if value}
        found: list[Json] = await self.get("requests", last=last, **kept)
        return found

    async def counters(self) -> Json:
        """All counters: requests, faults, exports, tokens, webhooks with their ACK times."""
        found: Json = await self.get("counters")
        return found

    async def gallery(self) -> dict[str, str]:
        """The hostile archives: name -> what is wrong with it."""
        found: dict[str, str] = await self.get("gallery")
        return found
