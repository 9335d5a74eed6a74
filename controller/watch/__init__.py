"""Which keys the reconciler visits and whether it may act: kopf's watches, the feed, the work queue and the Lease."""
