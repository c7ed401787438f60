"""Check every object inside DVC's process, before it is used. Only here dvc is imported; nothing imports this."""
