"""The modules named after tasks: short signatures over TaskModule, one for each task."""
