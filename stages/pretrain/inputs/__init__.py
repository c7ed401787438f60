"""What one run is given: images, labels, facts, pairs, starting weights; and what is refused. Never a step."""
