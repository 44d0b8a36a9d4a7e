"""Search for the text of a model: settings (Decoding), greedy and beam search and sampling (search, stream)."""

from lmtasks.decoding.search import search, stream
from lmtasks.decoding.settings import Decoding, Hypothesis
from lmtasks.decoding.walk import number_of

__all__ = ["Decoding", "Hypothesis", "number_of", "search", "stream"]
