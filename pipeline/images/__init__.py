"""What a person asks about single images of a trained run: their clusters, and what lies near an image."""
