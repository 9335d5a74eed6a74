"""The domain that the programs share.

A module lives here only if at least two programs need it, is called by a noun of the domain, and imports neither
kopf nor Starlette nor an AWS library. The programs import the domain, never each other.
"""
