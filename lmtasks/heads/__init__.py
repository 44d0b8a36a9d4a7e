"""Heads: the loss, and the few parameters, of one kind of task."""
