"""Optimisers and the schedule of the learning rate, as typed settings."""
