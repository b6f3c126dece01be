"""Access to Redis: scripts by their hash, pipelines over all shards, one error for an unavailable Redis."""
