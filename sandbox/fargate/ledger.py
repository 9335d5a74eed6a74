"""Where the bill is kept: `bill.jsonl` for pods that are gone, one file in `open/` for each that is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.fargate.bill import BillLine, Charge

if TYPE_CHECKING:
    from pathlib import Path


class Ledger:
    """The charges of one sandbox folder; open ones survive the node program."""

    def __init__(self, folder: Path) -> None:
        """Use this sandbox folder, making what is missing."""
        self._open = folder / "open"
        self._closed = folder / "bill.jsonl"
        self._open.mkdir(parents=True, exist_ok=True)

    def put(self, charge: Charge) -> None:
        """Record the state of a pod's charge."""
        file = self._open / f"{charge.uid}.json"
        fresh = file.with_suffix(".new")
        fresh.write_text(charge.model_dump_json())
        fresh.replace(file)

    def close(self, charge: Charge) -> None:
        """Move a charge whose pod is gone to the bill; it must have `gone_at`."""
        assert charge.gone_at is not None
        line = BillLine.of(charge, charge.gone_at)
        with self._closed.open("a") as file:
            file.write(line.model_dump_json() + "\n")
        (self._open / f"{charge.uid}.json").unlink(missing_ok=True)

    def open_charges(self) -> list[Charge]:
        """The charges of pods that were not gone when last recorded."""
        return [Charge.model_validate_json(file.read_bytes()) for file in sorted(self._open.glob("*.json"))]

    def lines(self, now: float) -> list[BillLine]:
        """Every line of the bill, pods that are still there billed up to `now` (Unix seconds)."""
        closed = self._closed.read_text().splitlines() if self._closed.exists() else []
        done = [BillLine.model_validate_json(line) for line in closed]
        known = {line.uid for line in done}
        return done + [BillLine.of(one, now) for one in self.open_charges() if one.uid not in known]
