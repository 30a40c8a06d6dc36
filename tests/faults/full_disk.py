"""Studies on disks that get full, and what becomes of them once there is room: unshare -rm python full_disk.py FOLDER.

Each has a small file system of its own, mounted in FOLDER. Printed is JSON: what was found of each.
"""

import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

import tuneflow as tn
from tuneflow.store.sqlite_file import file_system
from tuneflow.train.function_trainer import Function


def noted(x, note):
    return x


def net(width=8):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Linear(width, 10))


def plain(folder):
    """Grows by 500 bytes of configuration with each trial."""
    space = tn.SearchSpace(x=tn.Float(0.0, 1.0), note=tn.Constant("n" * 500))
    return tn.Study(space=space, trainer=Function(noted), minimize="value", folder=folder, progress=False)


def trained(folder):
    """Grows by 100 KB of weights with each trial."""
    train, valid, _ = tn.data.digits()
    return tn.Study(
        model=tn.Model(net),
        trainer=tn.Trainer(train[:64], valid[:32], loss=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD, epochs=2),
        space=tn.SearchSpace(model={"width": tn.Int(300, 400)}, optimizer={"lr": tn.Float(1e-3, 0.1)}),
        runtime=tn.Runtime("cpu", threads=1),
        folder=tn.Folder(folder, keep=100),
        progress=False,
    )


KINDS = {"database": (plain, 40), "states": (trained, 4)}
WAYS = ("the same study", "a new study", "another process")


def table(trials):
    return [(t.number, t.config, t.status, dict(t.metrics)) for t in trials]


def weights(study):
    """Of every trial; empty where one has no model any more."""
    if not isinstance(study.trainer, tn.Trainer):
        return []
    try:
        return [w.tolist() for t in study.trials for w in study.result(t.number).model().state_dict().values()]
    except tn.errors.TuneflowError:
        return []


def room(where, options):
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(where)], check=True)


def fill(study, total):
    """The message with which the study ends on a full disk; empty where it does not."""
    try:
        study.run(trials=total)
    except tn.errors.StoreError as error:
        return str(error)
    return ""


def go(kind, way, folder, message):
    """Fill the disk, unless another process did; make room, go on, and tell how it was."""
    make, total = KINDS[kind]
    if way != "another process":
        study = make(folder)
        message = fill(study, total)
    safe = sum(t.status == "DONE" for t in tn.open(folder).trials)
    if way == "a new study":
        study.close()
    room(folder.parent, "remount,size=20m")
    if way != "the same study":
        study = make(folder)
    study.run(trials=total)
    study.close()
    whole, again = make(None), make(folder)
    whole.run(trials=total)
    return {
        "folder": str(folder),
        "system": file_system(folder / "study.sqlite"),
        "message": message,
        "safe": safe,
        "table": table(tn.open(folder).trials) == table(whole.trials),
        "models": weights(again) == weights(whole),
    }


def make_trainings_cheap():
    """Import what torch imports at its first step, so that the processes that are forked have it."""
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def in_another_process(kind, folder):
    """The message with which a process that is forked from this one fills the disk."""
    make, total = KINDS[kind]
    ours, theirs = multiprocessing.Pipe(duplex=False)
    fork = multiprocessing.get_context("fork")
    process = fork.Process(target=lambda: theirs.send(fill(make(folder), total)))
    process.start()
    message = ours.recv()
    process.join()
    return message


def all_ways(top):
    folders = {(kind, way): top / f"{kind}, {way}" / "study" for kind in KINDS for way in WAYS}
    for folder in folders.values():
        folder.parent.mkdir()
        room(folder.parent, "size=300k")
    make_trainings_cheap()
    messages = {kind: in_another_process(kind, folders[kind, "another process"]) for kind in KINDS}
    return {f"{kind}, {way}": go(kind, way, folder, messages[kind]) for (kind, way), folder in folders.items()}


def no_room(where, kilobytes):
    """The message of a study that is made where there is no room for one."""
    where.mkdir()
    room(where, f"size={kilobytes}k")
    try:
        plain(where / "study").run(trials=1)
    except tn.errors.StoreError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    found = all_ways(Path(sys.argv[1]))
    found["no room"] = [no_room(Path(sys.argv[1]) / f"of {size}", size) for size in (4, 20, 60)]
    print(json.dumps(found))
