"""`python -m sandbox.toolchain`: build what is missing; `clean` removes everything that was kept."""

import argparse
import dataclasses
import sys

from entrypackage.human_size import human_size
from sandbox.processes import die_with_parent, run_program
from sandbox.toolchain.cache import Cache
from sandbox.toolchain.programs import Toolchain


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sandbox.toolchain", description=__doc__)
    parser.add_argument("action", nargs="?", choices=("build", "clean"), default="build")
    parser.add_argument("--s3", action="store_true", help="also versitygw, an S3 server over a folder")
    parser.add_argument("--quiet", action="store_true", help="say nothing about programs that are there already")
    options = parser.parse_args()

    async def act() -> None:
        die_with_parent()
        if options.action == "clean":
            cache = Cache.of_user()
            print(f"Removed {human_size(cache.remove_all())} from {cache.folder}.")
            return
        toolchain = Toolchain()
        found = dataclasses.asdict(await toolchain.ensure())
        if options.s3:
            found["versitygw"] = await toolchain.ensure_versitygw()
        if not options.quiet:
            for name, path in found.items():
                print(f"{name.replace('_', '-'):24} {path}")

    return run_program(act, interactive=True)


if __name__ == "__main__":
    sys.exit(main())
