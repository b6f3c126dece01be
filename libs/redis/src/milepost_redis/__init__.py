"""Access to Redis: scripts by their hash, pipelines over all shards, stored values, one error if it is unavailable."""
