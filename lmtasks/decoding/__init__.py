"""Search for the text of a model: settings (Decoding), greedy and beam search and sampling (search, stream)."""

from lmtasks.decoding.search import search, stream
from lmtasks.decoding.settings import Decoding, Hypothesis

__all__ = ["Decoding", "Hypothesis", "search", "stream"]
