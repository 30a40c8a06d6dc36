"""Studies: what they find, keep, hand over and refuse."""

import sqlite3

import numpy as np
import pytest
import torch
from torch import nn

import tuneflow as tn
from tests.helpers.small_studies import TEST, TRAIN, VALID, linear, make, net, scripted, trainer
from tuneflow.heuristics.input_scaling import NormalizedModule


def test_the_best_epoch_or_the_last_speaks_for_a_trial():
    best, last = scripted(at="best"), scripted(at="last")
    best.run()
    last.run()
    assert [t.metrics["loss"] for t in best.trials] == [1.0, 1.5, 2.5]
    assert [t.metrics["loss"] for t in last.trials] == [2.0, 1.5, 2.5]
    assert (best.best.number, last.best.number) == (0, 1)
    assert (best.best.origin.epoch, last.best.origin.epoch) == (2, 3)


def test_history_has_columns():
    study = scripted([[1.0, 1.0, 1.0], [float("nan")] * 3, [3.0, 3.0, 2.0], [RuntimeError("no"), 1.0, 1.0]])
    study.run()
    history = study.history
    assert [t.status for t in history.finished] == ["DONE", "DIVERGED", "DONE", "FAILED"]
    assert history.costs.tolist() == [1.0, np.inf, 2.0, np.inf]
    assert np.isnan(history.values[[1, 3]]).all()
    assert history.units.tolist() == [[0.125], [0.375], [0.625], [0.875]]
    assert history.trials[1].reason == "loss is nan at epoch 1"
    assert history.trials[3].reason == "RuntimeError: no"
    assert "raise loss" in history.trials[3].detail
    with pytest.raises(ValueError, match="read-only"):
        history.costs[0] = 0.0


def test_a_custom_searcher_climbs():
    class Climb(tn.Searcher):
        def suggest(self, space, history, rng):
            if len(history.finished) < 5:
                return space.sample(rng)
            center = space.to_unit(history.best.config)
            return space.from_unit((center + 0.1 * rng.standard_normal(len(center))).clip(0, 1))

    study = make(searcher=Climb())
    study.run(trials=8)
    assert len(study.trials) == 8
    fresh = Climb().suggest(study.space, study.history, np.random.default_rng(0))
    assert fresh == study.searcher.suggest(study.space, study.history, np.random.default_rng(0))


def test_the_best_model_is_the_one_that_was_scored(tmp_path):
    study = make(folder=tmp_path / "study")
    study.run(trials=4)
    best = study.best
    module = best.model()
    assert isinstance(module, NormalizedModule)
    right = (module(VALID.inputs).argmax(1) == VALID.targets).float().mean().item()
    assert right == pytest.approx(best.metrics["accuracy"])
    best.save(tmp_path / "best.pt")
    again = tn.load(tmp_path / "best.pt", net)
    assert torch.equal(again(TEST.inputs), module(TEST.inputs))
    assert not again.training
    scores = study.test(TEST)
    assert scores["accuracy"].value == pytest.approx(
        (module(TEST.inputs).argmax(1) == TEST.targets).float().mean().item()
    )
    assert scores["accuracy"].low < scores["accuracy"].value < scores["accuracy"].high
    assert "360 examples" in repr(scores)
    assert "accuracy" in repr(best)
    assert "+-" in repr(best)


def test_a_folder_and_its_path_open_the_same_study(tmp_path):
    with make(folder=str(tmp_path)) as study:
        study.run(trials=1)
    with make(folder=tn.Folder(tmp_path, keep=3, durable="never")) as again:
        assert again.folder == study.folder == tmp_path
        assert [t.config for t in again.trials] == [t.config for t in study.trials]


def test_only_the_best_states_are_kept(tmp_path):
    study = make(folder=tn.Folder(tmp_path, keep=2))
    study.run(trials=6)
    ranked = sorted(study.trials, key=lambda t: (-t.metrics["accuracy"], t.number))
    kept = {int(file.stem.split("-")[0]) for file in (tmp_path / "states").glob("*.state")}
    assert kept == {t.number for t in ranked[:2]}
    study.result(ranked[1].number).model()
    with pytest.raises(tn.errors.CheckpointError, match=r"keep=\.\.\."):
        study.result(ranked[-1].number).model()
    again = make(folder=tn.Folder(tmp_path, keep=2))
    assert again.best.number == ranked[0].number
    assert torch.equal(again.best.model()(TEST.inputs), study.best.model()(TEST.inputs))


def test_labels_need_the_space_to_load(tmp_path):
    space = tn.SearchSpace(model={"act": tn.Choice({"relu": nn.ReLU, "tanh": nn.Tanh})})
    study = make(space, searcher=tn.Grid())
    study.run()
    study.best.save(tmp_path / "best.pt")
    again = tn.load(tmp_path / "best.pt", net, space=space)
    assert torch.equal(again(TEST.inputs), study.best.model()(TEST.inputs))
    with pytest.raises(ValueError, match=r"act.*space="):
        tn.load(tmp_path / "best.pt", net)


def test_a_choice_of_models_and_optimizers():
    space = tn.SearchSpace(
        model=tn.Choice(
            {
                "small": tn.call(net, width=tn.Int(2, 4)),
                "linear": linear,
            }
        ),
        optimizer=tn.Choice({"sgd": tn.call(torch.optim.SGD, lr=tn.Float(0.01, 0.1)), "adam": torch.optim.Adam}),
        loss=tn.Choice(
            {"ce": nn.CrossEntropyLoss, "smooth": tn.call(nn.CrossEntropyLoss, label_smoothing=tn.Float(0, 0.2))}
        ),
        trainer={"batch_size": tn.Choice([16, 64])},
    )
    study = make(space, searcher=tn.Sobol())
    study.run(trials=8)
    assert {t.status for t in study.trials} == {"DONE"}
    assert len({str(t.config["model"])[:8] for t in study.trials}) == 2


def test_the_loss_of_a_saved_file_is_checked(tmp_path):
    study = make()
    study.run(trials=1)
    path = tmp_path / "best.pt"
    study.best.save(path)
    content = bytearray(path.read_bytes())
    weights = torch.load(path)["weights"]["1.weight"].numpy().tobytes()
    content[content.index(weights) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(tn.errors.CheckpointError, match=r"best\.pt"):
        tn.load(path, net)
    study.best.save(path)
    with pytest.raises(ValueError, match=r"best\.pt: holds a module that was made with .*width"):
        tn.load(path, lambda: net())
    path.write_bytes(b"not a model")
    with pytest.raises(tn.errors.CheckpointError, match=r"best\.pt"):
        tn.load(path, net)


def test_a_flipped_byte_in_a_state_is_noticed(tmp_path):
    study = make(folder=tmp_path)
    study.run(trials=2)
    (file,) = (tmp_path / "states").glob("*.state")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(tn.errors.CheckpointError, match=f"{file.name}.*SHA-256 differs"):
        make(folder=tmp_path).best.model()


@pytest.mark.filterwarnings("ignore:.*looks for the smallest accuracy:UserWarning")
def test_a_changed_study_is_refused_with_its_difference(tmp_path):
    make(folder=tmp_path).run(trials=1)
    changed = {
        "space": ({"space": {"optimizer": {"lr": tn.Float(1e-3, 0.1, log=True)}}}, "optimizer"),
        "seed": ({"seed": 1}, "seed was 0, now 1"),
        "direction": (
            {"maximize": None, "minimize": "accuracy"},
            "objective.goals.accuracy was 'maximize', now 'minimize'",
        ),
        "epochs": ({"trainer": trainer(epochs=5)}, "trainer.epochs was 3, now 5"),
        "data": (
            {
                "trainer": tn.Trainer(
                    TRAIN[:100],
                    VALID,
                    loss=nn.CrossEntropyLoss(),
                    optimizer=torch.optim.SGD,
                    epochs=3,
                    metrics={"accuracy": tn.metrics.accuracy},
                )
            },
            "trainer.data.train",
        ),
    }
    for settings, message in changed.values():
        with pytest.raises(tn.errors.FingerprintError, match=message):
            make(folder=tmp_path, **settings)
    with pytest.warns(UserWarning, match="searcher was"):
        make(folder=tmp_path, searcher=tn.Sobol())
    assert len(make(folder=tmp_path).trials) == 1


def test_five_failures_in_a_row_end_the_run():
    fine, broken = [1.0, 1.0, 1.0], [RuntimeError("broken"), 0, 0]
    study = scripted([fine if i in (6, 7) else broken for i in range(14)])
    with pytest.raises(tn.errors.StudyError, match="5 trials in a row failed, the last with RuntimeError: broken"):
        study.run()
    assert len(study.trials) == 5
    with pytest.raises(tn.errors.NothingFinished, match="5 of 5 ended"):
        study.best  # noqa: B018


def test_a_searcher_that_leaves_the_space_is_named():
    class Wild(tn.Searcher):
        def suggest(self, space, history, rng):
            return {"model": {"width": 99}, "optimizer": {"lr": np.float64(0.1)}}

    with pytest.raises(ValueError, match=r'Wild\(\) proposed for trial 0: "model.width" needs .* 4 to 16, got 99'):
        make(searcher=Wild()).run(trials=1)


def test_run_limits():
    study = make()
    study.run(epochs=4)
    assert (len(study.trials), [t.epochs for t in study.trials]) == (2, [3, 1])
    assert study.trials[1].status == "PAUSED"
    study.run(epochs=4)
    assert sum(t.epochs for t in study.trials) == 4
    study.run(seconds=0)
    assert sum(t.epochs for t in study.trials) == 4
    study.run(trials=2)
    assert [t.epochs for t in study.trials] == [3, 3]
    with pytest.raises(ValueError, match=r"target= or plateau=, since Random\(\) never ends"):
        study.run()
    with pytest.raises(ValueError, match="run: trials needs to be a whole number >= 1, got 0"):
        study.run(trials=0)


def test_an_interrupted_run_goes_on(monkeypatch):
    study = scripted()
    real, seen = study.trainer.advance, []

    def interrupted(job, state, until):
        for result in real(job, state, until):
            seen.append(1)
            if len(seen) == 5:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(study.trainer, "advance", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study.run()
    assert [(t.status, t.epochs) for t in study.trials] == [("DONE", 3), ("PAUSED", 1)]
    monkeypatch.undo()
    study.run()
    assert [t.status for t in study.trials] == ["DONE"] * 3


def test_paired_trials_share_their_start_and_unpaired_ones_do_not():
    space = {"optimizer": {"lr": tn.Float(1e-9, 2e-9)}}
    losses = {}
    for paired in (True, False):
        study = make(space, paired=paired)
        study.run(trials=2)
        losses[paired] = [t.reports[0].metrics["loss"] for t in study.trials]
    assert losses[True][0] == pytest.approx(losses[True][1], abs=1e-5)
    assert abs(losses[False][0] - losses[False][1]) > 1e-3


def test_progress_is_one_line_per_trial_and_can_be_silenced(capsys):
    scripted(progress=True).run()
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ")[:2] for line in lines] == [[f"trial {i}", "DONE"] for i in range(3)]
    scripted(progress=False).run()
    assert capsys.readouterr() == ("", "")


def test_a_store_that_is_none_is_refused(tmp_path):
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "study.sqlite").write_text("hello " * 1000)
    with pytest.raises(tn.errors.StoreError, match=r"study\.sqlite: not a tuneflow store"):
        make(folder=tmp_path / "text")
    (tmp_path / "newer").mkdir()
    make(folder=tmp_path / "newer")
    with sqlite3.connect(tmp_path / "newer" / "study.sqlite") as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(tn.errors.StoreError, match=r"newer tuneflow .*99"):
        make(folder=tmp_path / "newer")
    (tmp_path / "file").write_text("")
    with pytest.raises(tn.errors.StoreError, match=r"file: cannot be used"):
        make(folder=tmp_path / "file")


BAD = {
    "metric": (lambda: make(maximize="acuracy"), ValueError, 'maximize="acuracy" .* Did you mean "accuracy"'),
    "both ways": (lambda: make(minimize="accuracy"), ValueError, '"accuracy" is given twice'),
    "best of several": (lambda: make(minimize="loss", at="best"), ValueError, "needs one objective"),
    "at": (lambda: make(at="first"), ValueError, '"best" or "last", got \'first\''),
    "section": (lambda: make({"optimiser": {"lr": 0.1}}), ValueError, '"optimiser". Did you mean "optimizer"'),
    "argument": (
        lambda: make({"model": {"widht": tn.Int(1, 2)}}),
        TypeError,
        'section "model": net takes no argument "widht". Did you mean "width"',
    ),
    "optimizer argument": (
        lambda: make({"optimizer": {"lrr": tn.Float(0.1, 0.2)}}),
        TypeError,
        'section "optimizer": SGD takes no argument "lrr". Did you mean "lr"',
    ),
    "loss instance": (lambda: make({"loss": {"label_smoothing": 0.1}}), TypeError, "pass the class to the Trainer"),
    "trainer setting": (lambda: make({"trainer": {"batchsize": 3}}), TypeError, 'Did you mean "batch_size"'),
    "missing argument": (
        lambda: make({"model": {"b": 1}}, model=tn.Model(lambda a, b: net())),
        TypeError,
        "also needs a",
    ),
    "broken branch": (
        lambda: make({"model": {"act": tn.Choice({"relu": nn.ReLU, "bad": lambda: 3})}}),
        ValueError,
        "'bad'.* cannot be built: TypeError",
    ),
    "space": (
        lambda: tn.Study(model=tn.Model(net), trainer=trainer(), space={}),
        TypeError,
        "space needs a tn.SearchSpace",
    ),
    "searcher class": (lambda: make(searcher=tn.Random), TypeError, "searcher needs .* add parentheses"),
    "seed": (lambda: make(seed=1.5), TypeError, "seed needs to be a whole number, got 1.5"),
    "keep": (
        lambda: make(folder=tn.Folder(None, keep=0)),
        ValueError,
        "Folder: keep needs to be a whole number >= 1, got 0",
    ),
    "folder path": (lambda: tn.Folder(3), TypeError, "Folder: path needs to be a path .* got 3"),
    "grid name": (lambda: make(searcher=tn.Grid({"rate": 3})), ValueError, '"rate"'),
    "no builder output": (lambda: make({}, model=tn.Model(lambda: 3)), ValueError, "needs to return a torch.nn.Module"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_mistake_is_named_before_trial_0(name):
    broken, kind, message = BAD[name]
    with pytest.raises(kind, match=message):
        broken()


@pytest.mark.parametrize("seed", [-1, 2**40, 10**30])
def test_any_whole_number_is_a_seed(seed):
    study = make(seed=seed)
    study.run(trials=1)
    assert study.trials[0].status == "DONE"
