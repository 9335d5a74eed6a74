"""Everything that is said to Benchling: one client, one rate budget, one breaker, used by the leader alone.

`client.BenchlingClient` is the door; every error that leaves it is an `errors.BenchlingFailure` of the closed table in
`entrypackage.failures`. Nothing here knows Kubernetes.
"""
