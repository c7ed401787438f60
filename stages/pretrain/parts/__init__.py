"""Building blocks that several methods share: memories, queues, masks, crops. One idea a file."""
