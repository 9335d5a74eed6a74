"""Container logs and how they are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sandbox.fargate.clock import parse_rfc3339
from sandbox.fargate.logs import ContainerLog, LogQuery, last_text, move_aside, previous_log, read_log

if TYPE_CHECKING:
    from pathlib import Path


async def _read(file: Path, **options: Any) -> str:
    return b"".join([piece async for piece in read_log(file, LogQuery(**options), None)]).decode()


async def test_log_form_and_cuts(tmp_path: Path) -> None:
    file = tmp_path / "c.log"
    log = ContainerLog(file)
    log.write("stdout", b"one\ntw")
    log.write("stderr", b"err\n")
    log.write("stdout", b"o\nthree")
    log.close()
    lines = [line.split(" ", 1)[1] for line in file.read_text().splitlines()]
    assert lines == ["stdout F one", "stderr F err", "stdout F two", "stdout F three"]
    assert await _read(file) == "one\nerr\ntwo\nthree\n"
    assert await _read(file, tail_lines=2) == "two\nthree\n"
    assert await _read(file, tail_lines=0) == ""
    assert await _read(file, tail_lines=99) == "one\nerr\ntwo\nthree\n"
    assert await _read(file, limit_bytes=5) == "one\ne"
    assert await _read(file, since=4e9) == ""
    stamped = (await _read(file, timestamps=True, tail_lines=1)).split(" ")
    assert stamped[1] == "three\n"
    assert await _read(file, since=parse_rfc3339(stamped[0])) == "three\n"
    assert last_text(file, 9) == "two\nthree\n"[-9:]


async def test_long_lines_are_split_and_joined(tmp_path: Path) -> None:
    log = ContainerLog(tmp_path / "c.log")
    log.write("stdout", b"x" * 40_000 + b"\nend\n")
    log.close()
    tags = [line.split(" ")[2] for line in log.file.read_text().splitlines()]
    assert tags == ["P", "P", "F", "F"]
    assert await _read(log.file) == "x" * 40_000 + "\nend\n"


async def test_each_run_has_its_file(tmp_path: Path) -> None:
    file = tmp_path / "p" / "c.log"
    for text in (b"first\n", b"second\n", b"third\n"):
        log = ContainerLog(file)
        assert (previous_log(file) is None) is (text == b"first\n")
        log.write("stdout", text)
        log.close()
    before = previous_log(file)
    assert before is not None
    assert (await _read(before), await _read(file)) == ("second\n", "third\n")
    move_aside(file.parent)
    assert not file.exists()
    assert (tmp_path / "p~1" / "c.log").exists()
