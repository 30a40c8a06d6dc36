"""A step of one's own that narrows a hidden layer, and studies of a winner to fork."""

import torch

import tuneflow as tn
from tests.helpers.small_studies import make, trainer
from tuneflow.compress import Select


class Keep:
    """Keeps a share of the units between two linear layers: those with the largest gradients on a few training rows.

    Which these are depends on the winner, the rows, the seed and the settings.
    """

    def __init__(self, share=0.5, first="1", second="3", noise=1e-3, norm=None):
        self.share, self.first, self.second, self.noise, self.norm = share, first, second, noise, norm

    def operations(self, module, rows):
        layer = module.get_submodule(self.first)
        for batch in rows.batches(32, 2):
            rows.loss_of(module, batch).backward()
        saliency = (layer.weight.grad * layer.weight).sum(1).abs()
        saliency = saliency * (1 + self.noise * torch.rand(len(saliency)))
        index = saliency.topk(max(1, round(self.share * len(saliency)))).indices.sort().values
        kept = [(self.first, "weight", 0), (self.first, "bias", 0), (self.second, "weight", 1)]
        if self.norm is not None:
            kept += [(self.norm, name, 0) for name in ("weight", "bias", "running_mean", "running_var")]
        return [Select(*where, index) for where in kept]


SPACE = {"keep": {"share": tn.Float(0.3, 0.9)}, "optimizer": {"lr": tn.Float(1e-3, 0.1, log=True)}}


def winners(**settings):
    """A study whose best trial is to be forked."""
    study = make(trainer=trainer(**settings))
    study.run(trials=2)
    return study


def fork(winner, space=None, **settings):
    """A study of two epochs over a winner with the step `keep`."""
    steps = settings.pop("steps", {"keep": Keep})
    settings = {"model": tn.Model(winner, steps=steps), "trainer": trainer(epochs=2)} | settings
    return make(SPACE if space is None else space, **settings)


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one, other):
    """True if two modules have the same tensors, to the bit."""
    one, other = weights(one), weights(other)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
