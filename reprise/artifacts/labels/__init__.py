"""Labels as tables: those that miners made, and those that a person wrote. Never how they are made."""
