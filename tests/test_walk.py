"""The walk in docs/explanation/walk.md names files that exist, and a study enters them in that order."""

import re
import sys
from pathlib import Path

import torch
from torch import nn

import tuneflow as tn

PACKAGE = Path(tn.__file__).parent
PAGE = (PACKAGE.parent / "docs" / "explanation" / "walk.md").read_text()


def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def entered(action):
    """Return the files of the package whose functions `action` calls, in order."""
    files = []

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            files.append(str(path.relative_to(PACKAGE)))

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return files


def test_every_file_of_the_walk_exists():
    assert [path for path in re.findall(r"`([\w/]+\.py)`", PAGE) if not (PACKAGE / path).is_file()] == []


def test_study_enters_the_files_of_the_walk_in_their_order(tmp_path):
    train, valid, _ = tn.data.digits()
    study = tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(train[:64], valid[:64], loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2),
        space=tn.SearchSpace(optimizer={"lr": tn.Float(1e-3, 0.1, log=True)}),
        searcher=tn.Sobol(),
        runtime=tn.Runtime("cpu", threads=1),
        folder=tmp_path,
        progress=False,
    )
    study.run(trials=1)  # the dry run of the first run is not part of the walk
    steps = re.findall(r"^\d+\. `([\w/]+\.py)`", PAGE, re.M)
    assert len(steps) > 40
    files = iter(entered(lambda: (study.run(trials=2), study.best.model())))
    assert [step for step in steps if step not in files] == []  # `in` consumes: each is found after the one before
