"""Softmax, sigmoid and their logarithms before a loss that takes logits, and the converse, are named before trial 0."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import tuneflow as tn
from tuneflow.check.bounded_outputs import check_bounded
from tuneflow.check.layer_watch import Watch
from tuneflow.check.loss_rules import LossRules
from tuneflow.check.output_kinds import OutputKinds

DRAWS = torch.Generator().manual_seed(0)
X = torch.randn(24, 6, generator=DRAWS)
Y = torch.randint(3, (24,), generator=DRAWS)
ONES = F.one_hot(Y, 3).float()
MAPS, PIXELS = torch.randn(4, 6, 5, generator=DRAWS), torch.randint(3, (4, 5), generator=DRAWS)
CE, BCE, LOGITS, NLL = nn.CrossEntropyLoss(), nn.BCELoss(), nn.BCEWithLogitsLoss(), nn.NLLLoss()


class Net(nn.Module):
    """A linear layer and what comes after it."""

    def __init__(self, after):
        super().__init__()
        self.last, self.after = nn.Linear(6, 3), after

    def forward(self, inputs):
        return self.after(self.last(inputs))


def ended(*layers):
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), *layers)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.key, self.value, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, inputs):
        weights = (self.key(inputs)[:, None] * inputs[:, :, None]).sum(-1).softmax(-1)
        return self.last(weights * self.value(inputs))


def penalty(outputs, targets):
    return F.cross_entropy(outputs, targets) + 0.1 * (outputs.softmax(1) * outputs.log_softmax(1)).sum(1).mean()


def focal(outputs, targets):
    p = outputs.sigmoid()
    return -(targets * (1 - p) ** 2 * p.log() + (1 - targets) * p**2 * (1 - p).log()).mean()


def likelihood(outputs, targets):
    return -(outputs.log_softmax(1) * targets).sum(1).mean()


REFUSED = {
    "softmax layer": (ended(nn.Softmax(dim=1)), CE, Y, 'softmax of layer "3: Softmax"'),
    "softmax function": (Net(lambda x: F.softmax(x, 1)), CE, Y, "softmax of Net"),
    "softmax method": (Net(lambda x: x.softmax(1)), F.cross_entropy, Y, "softmax of Net"),
    "torch.softmax": (Net(lambda x: torch.softmax(x, dim=1).float()), CE, Y, "softmax of Net"),
    "softmax and a clamp": (Net(lambda x: x.softmax(1).clamp(1e-6, 1).squeeze()), CE, Y, "softmax of Net"),
    "softmax in the loss": (ended(), lambda o, t: F.cross_entropy(o.softmax(1), t), Y, "softmax of the loss"),
    "exp of log_softmax": (Net(lambda x: x.log_softmax(1).exp()), CE, Y, "softmax of Net"),
    "softmax by hand": (Net(lambda x: x.exp() / x.exp().sum(1, keepdim=True)), CE, Y, "add up to 1 in every row"),
    "softmax of pixels": (nn.Sequential(nn.Conv1d(6, 3, 1), nn.Softmax(1)), CE, PIXELS, '"1: Softmax"'),
    "sigmoid layer": (ended(nn.Sigmoid()), CE, Y, 'sigmoid of layer "3: Sigmoid"'),
    "sigmoid and logits": (ended(nn.Sigmoid()), LOGITS, ONES, "Leave the sigmoid out.*nn.BCELoss"),
    "sigmoid of one output": (Net(lambda x: torch.sigmoid(x)[:, 0]), LOGITS, ONES[:, 0], "sigmoid of Net"),
    "sigmoid_ and a view": (Net(lambda x: x.sigmoid_().reshape(-1)), LOGITS, ONES.reshape(-1), "sigmoid of Net"),
    "softmax and logits": (ended(nn.Softmax(1)), F.binary_cross_entropy_with_logits, ONES, "softmax of layer"),
    "log_softmax and logits": (ended(nn.LogSoftmax(1)), LOGITS, ONES, "logarithm of layer"),
    "many labels": (ended(nn.Sigmoid()), nn.MultiLabelSoftMarginLoss(), ONES, "takes logits"),
    "balanced": (ended(nn.Softmax(1)), tn.nn.BalancedCrossEntropy(power=0.0), Y, "takes logits"),
    "logits and NLL": (ended(), NLL, Y, 'scores of layer "2: Linear".*nn.CrossEntropyLoss'),
    "other scores and NLL": (ended(nn.ReLU()), F.nll_loss, Y, "outputs that are not"),
    "softmax and NLL": (ended(nn.Softmax(1)), NLL, Y, "LogSoftmax.*in the place of the softmax"),
    "logits and BCE": (ended(), BCE, ONES, "scores of layer.*nn.BCEWithLogitsLoss"),
    "tanh and BCE": (ended(nn.Tanh()), BCE, ONES, "takes probabilities, but gets outputs, from -"),
    "logits and KL": (ended(), nn.KLDivLoss(reduction="batchmean"), ONES, "takes log-probabilities"),
    "softmax and KL": (ended(nn.Softmax(1)), F.kl_div, ONES, "softmax of layer"),
    "log_softmax over the rows": (ended(nn.LogSoftmax(dim=0)), NLL, Y, 'softmax of layer "3: LogSoftmax" is over dim'),
    "the same and cross_entropy": (Net(lambda x: x.log_softmax(0)), CE, Y, "over dimension 0"),
    "softmax over the rows and BCE": (ended(nn.Softmax(dim=0)), BCE, ONES, "over dimension 0, the rows of a batch"),
    "log of the same in the loss": (ended(), lambda o, t: F.nll_loss(o.softmax(0).log(), t), Y, "Take dim=1"),
    "log_softmax over the rows and KL": (Net(lambda x: x.log_softmax(0)), F.kl_div, ONES, "over dimension 0"),
    "sigmoid, then a sigmoid by hand": (ended(nn.Sigmoid()), focal, ONES, "the sigmoid of probabilities, those after"),
    "softmax, then log_softmax by hand": (ended(nn.Softmax(1)), likelihood, ONES, "the log_softmax of probabilities"),
    "KL of logarithms": (ended(nn.LogSoftmax(1)), F.kl_div, (ONES + 0.1).log(), "log_target=True takes their log"),
    "KL of probabilities": (ended(nn.LogSoftmax(1)), nn.KLDivLoss(log_target=True), ONES, "leave out log_target=True"),
}
ALLOWED = {
    "logits": (ended(), CE, Y),
    "logits of pixels": (nn.Conv1d(6, 3, 1), CE, PIXELS),
    "logits and yes or no": (Net(lambda x: x.squeeze(-1)), LOGITS, ONES),
    "log_softmax and NLL": (ended(nn.LogSoftmax(dim=1)), NLL, Y),
    "log of softmax and NLL": (Net(lambda x: (x.softmax(1) + 1e-8).log()), NLL, Y),
    "log of a softmax layer in the loss": (ended(nn.Softmax(1)), lambda o, t: F.nll_loss(o.log(), t), Y),
    "log of a clamp": (ended(nn.Softmax(1)), lambda o, t: F.nll_loss(o.clamp(min=1e-7).log(), t), Y),
    "KL of the logarithms of shares": (
        ended(nn.LogSoftmax(1)),
        nn.KLDivLoss(reduction="sum", log_target=True),
        -1 - ONES,
    ),
    "focal by hand": (ended(), focal, ONES),
    "likelihood by hand": (ended(), likelihood, ONES),
    "softmax over a map": (nn.Sequential(nn.Conv1d(6, 3, 1), nn.LogSoftmax(1)), NLL, PIXELS),
    "sigmoid and BCE": (ended(nn.Sigmoid()), BCE, ONES),
    "softmax and BCE": (ended(nn.Softmax(1)), BCE, ONES),
    "a clamp and BCE": (Net(lambda x: (x / 4 + 0.5).clamp(0, 1)), BCE, ONES),
    "log_softmax and KL": (ended(nn.LogSoftmax(1)), nn.KLDivLoss(reduction="batchmean"), ONES),
    "softmax of a teacher": (ended(), lambda o, t: F.cross_entropy(o, X.softmax(1)[:, :3]), Y),
    "softmax and MSE": (ended(nn.Softmax(1)), nn.MSELoss(), ONES),
    "sigmoid and MSE": (ended(nn.Sigmoid()), nn.MSELoss(), ONES),
    "attention": (Attention(), CE, Y),
    "softmax, then linear": (ended(nn.Softmax(1), nn.Linear(3, 3)), CE, Y),
    "a gate": (Net(lambda x: x * x.sigmoid()), CE, Y),
    "a scaled sigmoid": (Net(lambda x: 10 * x.sigmoid()), CE, Y),
    "cosines": (Net(lambda x: F.normalize(x, dim=1) / 0.1), CE, Y),
    "a penalty on the entropy": (ended(), penalty, Y),
    "squares": (Net(lambda x: x.square()), CE, Y),
    "softmax after the loss's own input": (Net(lambda x: (x, x.softmax(1))), lambda o, t: F.cross_entropy(o[0], t), Y),
}


def watched(module, loss, targets):
    inputs = MAPS if targets is PIXELS else X
    with Watch(module, len(inputs), LossRules((inputs, None), ()), OutputKinds()):
        return loss(module(inputs), targets)


@pytest.mark.parametrize("name", REFUSED)
def test_a_kind_of_outputs_that_the_loss_does_not_take_is_named(name):
    *parts, words = REFUSED[name]
    with pytest.raises(ValueError, match=words):
        watched(*parts)


@pytest.mark.parametrize("name", ALLOWED)
def test_the_right_kind_passes_without_a_word(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.isfinite(watched(*ALLOWED[name]))


HAND_MADE = {
    "logistic": (lambda x: 1 / (1 + torch.exp(-x)), LOGITS, ONES),
    "its other form": (lambda x: x.exp() / (1 + x.exp()), LOGITS, ONES),
    "reciprocal": (lambda x: (1 + (-x).exp()).reciprocal(), CE, Y),
    "tanh": (lambda x: (x.tanh() + 1) / 2, LOGITS, ONES),
    "complement of a sigmoid": (lambda x: 1 - x.sigmoid(), nn.MultiLabelSoftMarginLoss(), ONES),
    "a clamp": (lambda x: x.clamp(0, 1), LOGITS, ONES),
}
FREE = {
    "logits": (lambda x: x, LOGITS, ONES),
    "small positive ones": (lambda x: x / 10 + 0.5, CE, Y),
    "positive": (lambda x: x.relu(), LOGITS, ONES),
    "tanh": (lambda x: x.tanh(), CE, Y),
    "zeros": (lambda x: x * 0, LOGITS, ONES),
    "other losses": (lambda x: x.sigmoid(), nn.MSELoss(), ONES),
}


@pytest.mark.parametrize("name", HAND_MADE)
def test_outputs_from_0_to_1_whatever_the_weights_are_no_logits(name):
    after, loss, targets = HAND_MADE[name]
    net = Net(after)
    with pytest.raises(ValueError, match="stay between 0 and 1 whatever the weights"):
        check_bounded(net, lambda: loss(net(X), targets))


@pytest.mark.parametrize("name", FREE)
def test_outputs_that_can_leave_0_to_1_pass_and_weights_stay(name):
    after, loss, targets = FREE[name]
    net = Net(after)
    before = net.last.weight.clone()
    check_bounded(net, lambda: loss(net(X), targets))
    assert torch.equal(net.last.weight, before)


def study(module, loss, targets):
    return tn.Study(
        model=tn.Model(module), space=tn.SearchSpace(optimizer={"lr": tn.Float(0.01, 0.1)}), progress=False,
        trainer=tn.Trainer((X, targets), (X, targets), loss=loss, optimizer=torch.optim.SGD),
    )  # fmt: skip


def test_log_softmax_before_cross_entropy_is_called_needless():
    with pytest.warns(UserWarning, match=r'"3: LogSoftmax", as they are: harmless'):
        study(lambda: ended(nn.LogSoftmax(dim=1)), CE, Y)


def test_a_loss_that_takes_targets_first_is_told_the_order():
    with pytest.raises(ValueError, match=r"the loss fails .*; a loss is called as loss\(outputs, targets\)"):
        study(ended, lambda targets, outputs: F.cross_entropy(outputs, targets), Y)


def test_a_study_refuses_a_sigmoid_by_hand():
    with pytest.raises(ValueError, match="binary_cross_entropy_with_logits takes logits, but gets outputs that stay"):
        study(lambda: Net(lambda x: 1 / (1 + torch.exp(-x))), LOGITS, ONES)


def test_a_study_refuses_before_trial_0():
    with pytest.raises(ValueError, match=r"lr.*cross_entropy takes logits.*Leave the softmax out, or keep it"):
        study(lambda: ended(nn.Softmax(dim=1)), CE, Y)


class OnlyInEvaluation(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, inputs):
        return self.last(inputs) if self.training else self.last(inputs).softmax(1)


def test_softmax_in_evaluation_mode_alone_is_named_too():
    with pytest.raises(ValueError, match="in evaluation mode, cross_entropy takes logits"):
        study(OnlyInEvaluation, CE, Y)
