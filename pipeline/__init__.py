"""WHEN it runs: drives the graph. Never torch, never a stage's maths; stages are started as processes."""
