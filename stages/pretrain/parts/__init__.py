"""What methods share: losses, schedules, optimiser groups. One idea a file."""
