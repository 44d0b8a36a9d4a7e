"""Tables of weight names: which tensors of a model of others are which parameters of our backbone, in both directions.

A row has our name and theirs. `{i}` stands for the number of a layer and `*` for weight or bias. Several names of
theirs are stacked in our tensor, as query, key and value are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from lmtasks.errors import InputError

Row = tuple[str, tuple[str, ...]]
OF_TOKENS = ("embedding.weight", "output_weight", "output_bias")  # have a row for each token


@dataclass(frozen=True)
class Table:
    """The weights of one architecture.

    Raises: InputError, in `load` and `names`, if a tensor is missing or none of the table.
    """

    rows: tuple[Row, ...]
    """Our name, and theirs."""
    left_out: tuple[str, ...] = ()
    """Names of theirs, with * for any part, that our backbone does not have or computes."""
    copies: Mapping[str, str] | None = None
    """{name: name of the tensor that it repeats}, where weights are tied; a file may hold either, or both."""
    fresh: tuple[str, ...] = ()
    """How our names begin that they do not have, such as those of a decoder over an encoder: drawn at random."""
    optional: tuple[str, ...] = ()
    """Names of ours that a file may lack; then they stay 0."""

    @torch.no_grad()
    def load(
        self,
        backbone: nn.Module,
        tensors: Mapping[str, Tensor],
        rename: Callable[[str], str],
        more: int = 0,
        whole: bool = False,
    ) -> None:
        """Copy the tensors into the parameters of `backbone`, one by one.

        rename: turns a name of the file into that of the table.
        more: rows that embeddings have beside theirs.
        whole: whether the backbone has all layers, so that none of theirs may be left over.

        Into a backbone on the device "meta" nothing is copied, which checks names and shapes alone.
        """
        named = {rename(name): name for name in tensors}
        present = {self._original(name): own for name, own in named.items()} | named
        self._check_copies(named, tensors)
        used: set[str] = set()
        for name, parameter in backbone.named_parameters():
            if (theirs := self._names(name)) is None:
                continue
            if name in self.optional and not present.keys() & theirs:
                continue
            used.update(theirs)
            if missing := next((each for each in theirs if each not in present), None):
                raise InputError(f"its weights lack {missing}, our {name}")
            _copy(parameter, [tensors[present[each]] for each in theirs], name, more if name in OF_TOKENS else 0)
        self._check_unused(named, used, whole)

    def names(self, backbone: nn.Module) -> Iterator[tuple[str, Tensor]]:
        """Return the parameters of a backbone under their names, as the original model would have them."""
        return self.named({name: parameter.detach() for name, parameter in backbone.named_parameters()})

    def named(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield tensors, given by our names, under those of the original model."""
        for name, tensor in tensors.items():
            theirs = self._names(name) or ()
            yield from zip(theirs, tensor.chunk(len(theirs)) if theirs else (), strict=True)

    def _names(self, ours: str) -> tuple[str, ...] | None:
        """Return the names of theirs that make up a parameter of ours, None if they have none."""
        for pattern, theirs in self.rows:
            if match := _pattern(pattern).fullmatch(ours):
                values = match.groupdict()
                return tuple(_filled(each, values) for each in theirs)
        if ours.startswith(self.fresh):
            return None
        raise AssertionError(f"no row of the table has our {ours}")

    def _original(self, name: str) -> str:
        return (self.copies or {}).get(name, name)

    def _check_copies(self, named: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
        """Check that tied weights are the same where a file holds several of them."""
        first: dict[str, str] = {}
        for name in named:
            other = first.setdefault(self._original(name), name)
            if other != name and not torch.equal(tensors[named[name]], tensors[named[other]]):
                raise InputError(f"its weights {name} and {other} differ, though they are tied")

    def _check_unused(self, named: Iterable[str], used: set[str], whole: bool) -> None:
        """Check that every tensor is used, named as left out, or, unless `whole`, of a layer that is not kept."""
        known = [_pattern(each) for _, theirs in self.rows for each in theirs]
        for name in sorted(named):
            own = self._original(name)
            if own in used or any(fnmatchcase(own, pattern) for pattern in self.left_out):
                continue
            if whole or not any(pattern.fullmatch(own) for pattern in known):
                raise InputError(f"its weights have {name}, which has no place in a model of its config.json")


def _copy(parameter: Tensor, parts: list[Tensor], name: str, more: int) -> None:
    """Copy tensors, stacked, into a parameter that has `more` rows than they have together."""
    rows = (len(parameter) - more) // len(parts)
    wanted = (rows, *parameter.shape[1:])
    for number, part in enumerate(parts):
        part = part[0] if part.ndim > parameter.ndim and len(part) else part  # Marian's output bias is (1, V)
        if part.shape != wanted or not part.is_floating_point():
            raise InputError(
                f"its {name} is {tuple(part.shape)} {part.dtype}, expected {wanted} floating-point numbers"
            )
        parameter[number * rows : (number + 1) * rows] = part


def _pattern(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a name with {i} and *."""
    escaped = re.escape(pattern).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\*", r"(?P<part>weight|bias)")
    return re.compile(escaped)


def _filled(pattern: str, values: Mapping[str, str]) -> str:
    return pattern.replace("{i}", values.get("i", "")).replace("*", values.get("part", ""))
