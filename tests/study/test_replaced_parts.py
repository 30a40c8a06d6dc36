"""Parts that are replaced between runs are checked as when a study is made; a refused study leaves no trace."""

import pytest

import tuneflow as tn
from tuneflow.train.protocol import TrainerProtocol

SPACE = tn.SearchSpace(x=tn.Float(-1.0, 1.0))


def test_a_searcher_or_scheduler_of_another_kind_is_refused():
    study = tn.Study(space=SPACE, minimize=["a", "b"], progress=False)
    for value in (None, "tpe", tn.TPE):
        with pytest.raises(TypeError, match=r"Study: searcher needs a tn\.Searcher"):
            study.searcher = value
    with pytest.raises(ValueError, match="Population: compares trials by one objective"):
        study.scheduler = tn.Population()
    study.searcher = tn.TPE()
    assert isinstance(study.searcher, tn.TPE)


def test_a_study_that_its_scheduler_refuses_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match="Population"):
        tn.Study(space=SPACE, minimize=["a", "b"], scheduler=tn.Population(), folder=tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("epochs", [0, 2.0, "3", None])
def test_a_trainer_with_bad_epochs_is_named(epochs):
    class Odd(TrainerProtocol):
        pass

    Odd.epochs = epochs
    with pytest.raises(ValueError, match=r"Study: Odd\.epochs needs to be a whole number >= 1"):
        tn.Study(space=SPACE, minimize="loss", trainer=Odd())
