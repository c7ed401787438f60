"""What a person writes: parameters, plug-in names, and the errors that answer them. Never data files, never torch."""
