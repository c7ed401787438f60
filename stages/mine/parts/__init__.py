"""What several miners share: centres, neighbour graphs, frames. Never a miner, never files."""
