"""What a source keeps of a store: fetched objects, and lists of names. Never how a store is asked."""
