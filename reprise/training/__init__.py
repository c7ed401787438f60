"""How networks are trained: optimisers, schedules, teachers, the loop. Never a method, never a file's format."""
