"""From shards to batches: decoded images, and the order in which an epoch shows them. Never networks."""
