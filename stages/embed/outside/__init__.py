"""What commands ask of a trained backbone outside of the graph: its export, and predictions. Never a stage."""
