"""What the next run would do and why: the plan, and what changed since DVC recorded it. Never starts a stage."""
