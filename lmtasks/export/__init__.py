"""Exports: a model as files that other engines run, and those engines as backbones under our heads and our search."""
