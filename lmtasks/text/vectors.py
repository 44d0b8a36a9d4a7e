"""Vectors: initialise an embedding with pretrained word vectors of any width.

The files are read by `vector_files.py`. Vectors that are wider or narrower than the embedding are projected by a fixed
matrix, so that a model has the same parameters with and without them.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from lmtasks.text.base import BaseTokenizer
from lmtasks.text.vector_files import read_vectors

_SEED = 1  # of the rotation; another one makes other, equally good vectors


class Found(NamedTuple):
    """How much of a vocabulary a file of word vectors has, from 0 to 1."""

    words: float
    """Share of the pieces that are words."""
    vocabulary: float
    """Share of all pieces."""


@torch.no_grad()
def initialise(embedding: nn.Embedding, tokenizer: BaseTokenizer, path: str | os.PathLike[str]) -> Found:
    """Set the row of every piece that is a word of the file, and return the share of rows that were set.

    `tokenizer.words()` decides which pieces are words: " dog" is the word "dog", the "ing" of "going" is not a word. A
    word that is not in the file gets the vector of its lower case; all other rows keep their random numbers. Vectors of
    another width are projected (`project`). One factor scales the vectors to the standard deviation of the embedding:
    they keep their directions and relative lengths, but do not dominate the random rows or, with tied weights, the
    first softmax. If the embedding has no deviation (zeros), the vectors are not scaled.

    Raises: InputError if the file cannot be read or has a broken row.
    """
    ids: dict[str, list[int]] = {}
    for i, word in tokenizer.words():
        ids.setdefault(word, []).append(i)
    lowered = {word.lower() for word in ids}
    found = read_vectors(path, ids.keys() | lowered)
    found |= {word: found[word.lower()] for word in ids.keys() - found.keys() if word.lower() in found}
    rows, weight = {i: found[word] for word in ids if word in found for i in ids[word]}, embedding.weight
    if rows:
        vectors = project(torch.from_numpy(np.stack(list(rows.values()))), embedding.embedding_dim).to(weight)  # (N, D)
        own, theirs = weight.std(), vectors.std()
        if own > 0 and theirs > 0:
            vectors *= own / theirs
        weight[torch.tensor(list(rows), device=weight.device)] = vectors
    return Found(len(rows) / max(1, sum(map(len, ids.values()))), len(rows) / len(tokenizer))


def project(vectors: Tensor, dimension: int) -> Tensor:
    """Return vectors (N, W) as vectors (N, D) with the same dot products, or with the nearest possible ones if D < W.

    To more dimensions the vectors are rotated, which keeps dot products exactly. To fewer dimensions they keep their
    part along their D greatest singular directions, as no matrix of rank D is nearer to theirs. The rotation then
    spreads it over all dimensions; otherwise the first ones would have most of the variance. The same vectors have the
    same result in every process.

    Source: Eckart and Young 1936, "The Approximation of One Matrix by Another of Lower Rank".
    """
    width = vectors.size(1)
    if width == dimension:
        return vectors
    exact = vectors.double()
    if width > dimension:
        directions = torch.linalg.eigh(exact.mT @ exact).eigenvectors[:, -dimension:]  # (W, D)
        # either sign of an eigenvector is right, and processors may choose differently
        exact = exact @ (directions * torch.where(directions.sum(dim=0) < 0, -1, 1))  # (N, D)
    generator = torch.Generator("cpu").manual_seed(_SEED)
    random = torch.randn(dimension, dimension, dtype=torch.double, device="cpu", generator=generator)
    rotation = torch.linalg.qr(random).Q.to(vectors.device)  # (D, D)
    return (exact @ rotation[: exact.size(1)]).to(vectors.dtype)
