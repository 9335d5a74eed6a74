"""Which clicks on a canvas ask for a package, and the request that they become.

The receiver files them when they arrive and the controller when it answers a canvas, so both call this.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from entrypackage.filing import Slot, Wish
from entrypackage.messages import CanvasInitialized, CanvasInteracted
from entrypackage.trigger import Trigger

if TYPE_CHECKING:
    from datetime import datetime

UPDATE_BUTTON: Final = "update-package-"
_PAGE_SUFFIX = re.compile(r"-p\d+-s\d+$")
_ENTRY = re.compile(r"etr_[A-Za-z0-9_]{1,124}")


def entry_of_update_button(button_id: str) -> str | None:
    """Return the entry of an *Update Package* button, ``update-package-<entry id>``; None for any other button.

    Canvases that exist may carry a page in the id (``-p0-s15``), which means nothing here.
    """
    if not button_id.startswith(UPDATE_BUTTON):
        return None
    rest = _PAGE_SUFFIX.sub("", button_id.removeprefix(UPDATE_BUTTON))
    return rest if _ENTRY.fullmatch(rest) else None


def requested_entry(message: CanvasInteracted | CanvasInitialized) -> str | None:
    """Return the entry whose package the message asks for; None if it asks for something else."""
    if isinstance(message, CanvasInteracted):
        return entry_of_update_button(message.button_id)
    return message.resource_id if _ENTRY.fullmatch(message.resource_id) else None


def click_wish(
    message: CanvasInteracted | CanvasInitialized, *, click_id: str, clicked_at: datetime, text: str | None
) -> Wish | None:
    """Return the request that a click becomes; None if it asks for no package.

    The id is the delivery's webhook-id and the time that of its header, because the message has neither; `text` is
    the message's canonical JSON.
    """
    entry_id = requested_entry(message)
    if entry_id is None:
        return None
    trigger = Trigger(id=click_id, type=message.type, occurred_at=clicked_at, user_id=message.user_id, message=text)
    return Wish(entry_id=entry_id, slot=Slot.REQUEST, trigger=trigger)
