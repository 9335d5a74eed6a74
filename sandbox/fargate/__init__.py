"""A local Fargate: one small node program that runs a real API server's pods as local processes.

As on EKS Fargate, only pods that a Fargate profile selects run, each on a Node of its own, in a size that is rounded up
and billed until the pod object is gone. `python -m sandbox.fargate --help` lists its options.
"""
