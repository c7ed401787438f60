"""Where the bytes of shards lie, here or in a store, and how a part of a tar is read. Never what the bytes mean."""
