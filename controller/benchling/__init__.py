"""The Benchling client: one rate limiter, one circuit breaker and one token for all calls. Only the leader uses it.

`client.BenchlingClient` is the way in. Every error that it raises is an `errors.BenchlingFailure`, whose class is a row
of the table in `entrypackage.failures`. Nothing here knows Kubernetes.
"""
