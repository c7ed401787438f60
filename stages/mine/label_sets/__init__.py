"""A label set as a whole: mined, measured, drawn, compared with earlier ones. Never the algorithm of a miner."""
