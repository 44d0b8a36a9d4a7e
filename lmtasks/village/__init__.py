"""The built-in corpus: a small village in two languages, told by a seeded grammar."""

from lmtasks.village.corpus import Village

__all__ = ["Village"]
