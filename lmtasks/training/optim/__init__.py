"""Optimisers and the schedule of the learning rate: typed settings, and Muon."""
