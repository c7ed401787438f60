"""The processes of one training: where each stands, how they start and how they end. What they exchange is in world."""
