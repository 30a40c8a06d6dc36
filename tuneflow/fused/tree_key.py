"""The structure of a batch as a key, whatever release of torch it comes from."""

from dataclasses import dataclass

from torch.utils import _pytree as pytree


@dataclass(frozen=True)
class TreeKey:
    """Containers and the types in them, by which a program is looked up; torch's own has no hash in 2.6."""

    spec: pytree.TreeSpec

    def __hash__(self) -> int:
        return hash(repr(self.spec))
