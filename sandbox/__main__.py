"""`python -m sandbox up | demo | files`: the product on one machine."""

import importlib
import os
import signal
import sys
from types import FrameType

_COMMANDS = {
    "up": "keep the product running here and say what to type",
    "demo": "show the product at work",
    "files": "list or print what lies on the sandbox's S3",
}


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    # Until a command answers Ctrl-C itself nothing has been started: there is nothing to clean up.
    print("\nStopped.", file=sys.stderr, flush=True)
    os._exit(130)


def main() -> int:
    signal.signal(signal.SIGINT, _interrupted)
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in _COMMANDS:
        print(
            "usage: python -m sandbox COMMAND\n", *(f"  {word:8} {text}" for word, text in _COMMANDS.items()), sep="\n"
        )
        return 0 if name in ("-h", "--help") else 2
    return int(importlib.import_module(f"sandbox.{name}").main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
