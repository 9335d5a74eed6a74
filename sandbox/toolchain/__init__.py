"""The real programs that the sandbox runs: found on this machine, or built once from pinned Go modules.

`cluster/` and `s3/` hold a go.mod and go.sum each, with `tool` directives and no Go code of ours.
"""

from sandbox.toolchain.programs import Programs, Toolchain

__all__ = ["Programs", "Toolchain"]
