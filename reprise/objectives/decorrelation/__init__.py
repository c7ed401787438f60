"""What keeps the dimensions of embeddings alive and apart without negatives. Never what draws views together."""
