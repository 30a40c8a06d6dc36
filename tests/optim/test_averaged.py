"""An average of the weights: its closed forms, and that it is scored, saved, handed over and resumed."""

import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.digits_training import TRAIN, VALID, job, linear, net, trainer
from tests.helpers.dry_run_cases import check
from tests.helpers.switching_optimizers import MeanInGroup
from tests.helpers.trainer_runs import facts, flat, run, through_file

SGD = torch.optim.SGD
AVERAGED = {
    "EMA": (tn.optim.Averaged(SGD, decay=0.9), {"momentum": 0.9}),
    "SWA": (tn.optim.Averaged(SGD, decay=None, start=0.4), {"momentum": 0.9}),
    "over Adam": (tn.optim.Averaged(torch.optim.Adam), {}),
    "over groups": (tn.optim.Averaged(tn.optim.Groups(SGD, no_decay=True, last="*.bias")), {"last": {"lr": 0.1}}),
}


def small(optimizer, **settings):
    return trainer(TRAIN[:200], VALID[:100], optimizer=optimizer, epochs=3, **settings)


def trial(section, builder=net):
    return job({"optimizer": {"lr": 0.05, **section}}, builder)


def stepped(optimizer, net, gradients):
    """The weight after each step with these gradients."""
    weights = []
    for gradient in gradients:
        net.weight.grad = torch.full((1, 1), float(gradient))
        optimizer.step()
        weights.append(net.weight.item())
    return weights


def average_of(weights, decay, start=0):
    """The average by its definition, one weight after the other."""
    average = weights[0]
    for counted, weight in enumerate(weights[start:], 1):
        share = 1 / counted if decay is None else max(1 - decay, 9 / (counted + 8))
        average += share * (weight - average)
    return average


@pytest.mark.parametrize("decay", [None, 0.0, 0.5, 0.999])
def test_the_average_is_that_of_its_definition(decay):
    one = nn.Linear(1, 1, bias=False)
    optimizer = tn.optim.Averaged(SGD, decay=decay)(one, lr=1.0)
    weights = stepped(optimizer, one, [1, -2, 3, 5, -1, 2, 2])
    optimizer.eval()
    assert one.weight.item() == pytest.approx(average_of(weights, decay), abs=1e-6)
    optimizer.train()
    assert one.weight.item() == weights[-1]


def test_swa_is_torchs_average_of_the_weights_from_its_start_on():
    ours, section = small(tn.optim.Averaged(SGD, decay=None, start=2 / 3)), {"momentum": 0.9}
    state, _ = run(ours, trial(section, linear))
    session = small(SGD).configured(trial(section).config).session(trial(section, linear))
    session.restore(small(SGD).init(trial(section, linear)))
    average = torch.optim.swa_utils.AveragedModel(session.module)
    for epoch in (1, 2, 3):
        with session.job.at_work("epoch", epoch):
            for batch in session.batches(epoch):
                session.backward(batch)
                session.step()
                if epoch == 3:
                    average.update_parameters(session.module)
    torch.testing.assert_close(state.values["module"]["1.weight"], average.module[1].weight.detach())


def test_training_itself_is_not_changed():
    plain, _ = run(small(SGD), trial({}, linear))
    ours, _ = run(small(tn.optim.Averaged(SGD)), trial({}, linear))
    assert torch.equal(plain.values["module"]["1.weight"], ours.values["optimizer"]["average"]["tensors"][0])


@pytest.mark.parametrize("name", AVERAGED)
def test_averages_resume_exactly_and_are_handed_over(name):
    make, section = AVERAGED[name]
    ours, job = small(make, schedule=tn.rates.OneCycle()), trial(section)
    whole, reports = run(ours, job)
    state = None
    for epoch in (1, 2, 3):
        state, more = run(ours, job, epoch, state if state is None else through_file(state))
    assert flat(state.values) == flat(whole.values)
    assert facts(more) == facts(reports[2:])
    score = ours.test(job, ours.module(job, through_file(state)), VALID[:100])["loss"].value
    assert score == pytest.approx(reports[-1].metrics["loss"], rel=1e-6)


@pytest.mark.parametrize("name", AVERAGED)
def test_averages_pass_the_dry_run(name):
    make, _ = AVERAGED[name]
    check(optimizer=make, space={"optimizer": {"lr": 0.01, "decay": tn.Float(0.5, 0.9)}})


def test_decay_is_tuned_and_a_fork_takes_another_one_up():
    ours, job = small(tn.optim.Averaged(SGD)), trial({"decay": 0.0}, linear)
    state, _ = run(ours, job, 1)
    assert torch.equal(
        state.values["module"]["1.weight"], run(small(SGD), trial({}, linear), 1)[0].values["module"]["1.weight"]
    )
    forks = [run(ours, trial({"decay": decay}, linear), 2, state)[0].values for decay in (0.0, 0.9)]
    assert not torch.equal(*(fork["module"]["1.weight"] for fork in forks))


def test_until_the_start_the_weights_themselves_are_scored():
    ours, _ = run(small(tn.optim.Averaged(SGD, start=0.5)), trial({}, linear), 1)
    plain, _ = run(small(SGD), trial({}, linear), 1)
    assert torch.equal(ours.values["module"]["1.weight"], plain.values["module"]["1.weight"])


def test_the_probe_sees_the_optimizer_within():
    measured = tn.probe(tn.Model(linear), small(tn.optim.Averaged(SGD)), config={"optimizer": {"momentum": 0.5}})
    assert (measured.optimizer, measured.momentum) == ("SGD", 0.5)


def test_a_loop_of_ones_own_names_it_as_state():
    @tn.loop(epochs=3)
    def fit(config, run):
        model = run.place(linear())
        optimizer = tn.optim.Averaged(SGD, decay=config["decay"])(model, lr=0.1)
        for _ in run.epochs(model=model, optimizer=optimizer):
            optimizer.train()
            for inputs, targets in TRAIN[:64].batches(16):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(inputs), targets).backward()
                optimizer.step()
            optimizer.eval()
            yield {"loss": nn.functional.cross_entropy(model(VALID.inputs), VALID.targets)}

    space = tn.SearchSpace(decay=tn.Float(0.5, 0.9))
    study = tn.Study(trainer=fit, space=space, searcher=tn.Random(), minimize="loss", progress=False)
    study.run(trials=1)  # the dry run resumes it
    assert study.trials[0].status == "DONE"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: tn.optim.Averaged(tn.optim.Averaged(SGD)), "does not average already"),
        (lambda: tn.optim.Averaged(MeanInGroup)(linear(), lr=0.1), "MeanInGroup averages its weights already"),
        (lambda: tn.optim.Averaged("sgd"), "needs an optimizer class"),
        (lambda: tn.optim.Averaged(SGD, decay=1.0), r"decay needs to be within \[0, 1\), got 1.0; None gives"),
        (lambda: tn.optim.Averaged(SGD, start=5), r"start needs to be within \[0, 1\), got 5"),
        (lambda: tn.optim.Averaged(SGD, start=0.5)(linear(), lr=0.1), "start needs the number of steps"),
        (lambda: tn.optim.Averaged(SGD)(linear(), decay=2.0), r"decay needs to be within \[0, 1\), got 2.0"),
    ],
)
def test_averages_that_do_not_fit_are_refused(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_a_misspelt_setting_of_a_group_within_is_refused_before_trial_0():
    make = tn.optim.Averaged(tn.optim.Groups(SGD, head="1"))
    with pytest.raises(TypeError, match='group "head": SGD takes no argument "lrr"'):
        check(optimizer=make, space={"optimizer": {"lr": 0.1, "head": {"lrr": 0.1}}})
    with pytest.raises(TypeError, match=r'no argument "deacy"\. Did you mean "decay"'):
        check(optimizer=make, space={"optimizer": {"lr": 0.1, "deacy": 0.9}})
