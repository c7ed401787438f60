"""Terms of a loss that depend on weights alone: functions of tensors. Never methods, never files."""
