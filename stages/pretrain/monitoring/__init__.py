"""What is looked at while a run trains: figures, collapse, watches, the live display. Never what a step computes."""
