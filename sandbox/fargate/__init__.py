"""A local Fargate: one small node program that runs a real API server's pods as local processes.

It does what people meet on EKS Fargate: only pods of a Fargate profile run, each on a Node of its own, in a
size that is rounded up and billed until the pod object is gone. `python -m sandbox.fargate --help` tells how
to start it.
"""
