"""The receiver: takes Benchling's signed webhooks and files each as one write to the API server.

It holds no secret and calls two addresses only: Benchling's published keys and the Kubernetes API.
"""
