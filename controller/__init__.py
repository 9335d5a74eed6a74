"""The operator: watches EntryPackages and makes each one true, one attempt at a time.

Reading order: `plan` (what is to be done, pure), `transitions` and `summary` (what the status then says, pure),
`execute` (how it is done), `reconcile` (the loop around them), `shell` (kopf, which only feeds the loop).
"""
