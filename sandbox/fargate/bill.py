"""What a pod on Fargate costs.

Prices: Linux x86 on demand in us-east-1, USD. Fargate bills by the second from the start of the image pull
until the pod object is gone, at least one minute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict

from sandbox.fargate.sizes import Size

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

VCPU_HOUR = 0.04048
GIGABYTE_HOUR = 0.004445
SHORTEST_SECONDS = 60.0


class Charge(BaseModel):
    """One pod's line of the bill; times are Unix seconds, sizes as in `Size`, memory in bytes.

    `finished_at` is when its last container ended, `gone_at` when its object was gone; both are None before.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str
    pod: str
    uid: str
    owner_kind: str = ""
    owner_name: str = ""
    profile: str = ""
    millicpu: int
    mebibytes: int
    pull_started_at: float
    finished_at: float | None = None
    gone_at: float | None = None
    peak_rss_bytes: dict[str, int] = {}
    exit_reason: str = ""

    def size(self) -> Size:
        """The size that is billed."""
        return Size(self.millicpu, self.mebibytes)


class BillLine(BaseModel):
    """A charge with what it amounts to; seconds kept are those after the last container's end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str
    pod: str
    uid: str
    owner_kind: str
    owner_name: str
    profile: str
    size: str
    started_at: float
    open: bool
    seconds_running: float
    seconds_kept: float
    vcpu_seconds: float
    gigabyte_seconds: float
    dollars: float
    peak_rss_bytes: dict[str, int]
    exit_reason: str

    @classmethod
    def of(cls, charge: Charge, now: float) -> Self:
        """The line for a charge; a pod that is still there is billed up to `now`."""
        end = max(charge.gone_at if charge.gone_at is not None else now, charge.pull_started_at)
        finished = min(charge.finished_at if charge.finished_at is not None else end, end)
        billed = max(end - charge.pull_started_at, SHORTEST_SECONDS)
        size = charge.size()
        vcpu_seconds, gigabyte_seconds = billed * size.vcpu, billed * size.gigabytes
        return cls(
            namespace=charge.namespace,
            pod=charge.pod,
            uid=charge.uid,
            owner_kind=charge.owner_kind,
            owner_name=charge.owner_name,
            profile=charge.profile,
            size=size.annotation(),
            started_at=charge.pull_started_at,
            open=charge.gone_at is None,
            seconds_running=round(finished - charge.pull_started_at, 3),
            seconds_kept=round(end - finished, 3),
            vcpu_seconds=round(vcpu_seconds, 3),
            gigabyte_seconds=round(gigabyte_seconds, 3),
            dollars=vcpu_seconds / 3600 * VCPU_HOUR + gigabyte_seconds / 3600 * GIGABYTE_HOUR,
            peak_rss_bytes=charge.peak_rss_bytes,
            exit_reason=charge.exit_reason,
        )


class Ledger:
    """The charges of one sandbox folder; open ones survive the node program.

    `bill.jsonl` holds the pods that are gone, `open/` one file for each that is not.
    """

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


class Total(BaseModel):
    """The sum of a bill."""

    model_config = ConfigDict(frozen=True)

    pods: int
    open: int
    vcpu_seconds: float
    gigabyte_seconds: float
    dollars: float


def total(lines: Iterable[BillLine]) -> Total:
    """Add the lines up."""
    every = list(lines)
    return Total(
        pods=len(every),
        open=sum(line.open for line in every),
        vcpu_seconds=round(sum(line.vcpu_seconds for line in every), 3),
        gigabyte_seconds=round(sum(line.gigabyte_seconds for line in every), 3),
        dollars=sum(line.dollars for line in every),
    )


def table(lines: Iterable[BillLine]) -> str:
    """The bill as text for a terminal, with its sum."""
    every = sorted(lines, key=lambda line: line.started_at)
    head = ("POD", "OWNER", "SIZE", "RUNNING", "KEPT", "PEAK RSS", "ENDED", "USD")
    rows = [head, *map(_row, every)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    result = total(every)
    text.append(
        f"{result.pods} pods ({result.open} still there): {result.vcpu_seconds:.0f} vCPU-s, "
        f"{result.gigabyte_seconds:.0f} GB-s, ${result.dollars:.6f}"
    )
    return "\n".join(line.rstrip() for line in text)


def _row(line: BillLine) -> tuple[str, ...]:
    peak = max(line.peak_rss_bytes.values(), default=0)
    # A pod that has not ended has no exit reason; one that never ran was not measured.
    return (
        f"{line.namespace}/{line.pod}",
        f"{line.owner_kind}/{line.owner_name}" if line.owner_kind else "-",
        line.size,
        f"{line.seconds_running:.1f}s",
        f"{line.seconds_kept:.1f}s",
        f"{peak / 2**20:.0f}Mi" if peak else "-",
        line.exit_reason or "running",
        f"{line.dollars:.6f}",
    )
