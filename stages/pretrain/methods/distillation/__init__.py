"""Self-distillation: a network predicts what it, or a slow copy of it, says about another view. No negatives."""
