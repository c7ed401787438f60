"""How networks are trained: the loop, epochs, optimisers, schedules. Never a method, never a file's format."""
