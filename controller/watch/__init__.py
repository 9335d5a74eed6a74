"""Who tells the reconciler what to look at, and whether it may act: kopf's watches, the feed, the queue, the Lease."""
