"""Files that tuneflow did not write, at the names of states and models: refused by name, and nothing in them runs."""

import hashlib
import io
import os
import pickle
import subprocess
import zipfile

import pytest
import torch
from torch import nn

import tuneflow as tn
from tuneflow.errors import CheckpointError, StoreError
from tuneflow.store.checkpoints import States
from tuneflow.study.saved_model import digest_of, save_model

LARGE = 10**13


class Program:
    """An object that runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return subprocess.call, (self.command,)


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def archive(pickled, storage=b"\0" * 12, packed=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", packed) as members:
        for name, content in {
            "data.pkl": pickled,
            "version": b"3\n",
            "byteorder": b"little",
            "data/0": storage,
        }.items():
            members.writestr(f"archive/{name}", content)
    return file.getvalue()


def tensor(size, stride, offset=0):
    """Return a file with a tensor of this layout over a storage of three numbers."""

    def number(value):
        return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)

    def text(value):
        return b"X" + len(value).to_bytes(4, "little") + value

    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + number(3) + b"tQ"
    layout = number(offset) + number(size) + b"\x85" + number(stride) + b"\x85"
    return archive(
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + layout + b"\x89ccollections\nOrderedDict\n)RtR."
    )


def calling(name, number=LARGE):
    """Return a file that calls a class with a number, as unpickling does."""
    return archive(b"\x80\x02c" + name + b"\n\x8a\x08" + number.to_bytes(8, "little") + b"\x85R.")


def shared():
    """Return a file with a list of ten lists of ten lists, 14 levels deep, each written once."""
    levels = (b"]q" + bytes([i]) + b"(" + (b"h" + bytes([i - 1])) * 10 + b"e" for i in range(1, 15))
    return archive(b"\x80\x02]q\0" + b"".join(levels) + b".")


FILES = {
    "nothing": b"",
    "text": b"not a model",
    "a zip of text": archive(b"text"),
    "a plain pickle": pickle.dumps({"epoch": 1, "values": {}}),
    "another program's model": saved(nn.Linear(2, 2)),
    "another program's weights": saved(nn.Linear(2, 2).state_dict()),
    "torch's older format": saved({"epoch": 1, "values": {}}, _use_new_zipfile_serialization=False),
    "a packed member": archive(b"\x80\x02}.", b"\0" * 10**6, zipfile.ZIP_DEFLATED),
    "a long tensor": tensor(LARGE, 1),
    "a long tensor of one number": tensor(LARGE, 0),
    "a tensor beyond its storage": tensor(3, 1, LARGE),
    "a tensor with large strides": tensor(3, LARGE),
    "a tensor with negative strides": tensor(3, -1),
    "an empty tensor by a number": calling(b"torch\nTensor"),
    "a storage by a number": calling(b"torch.storage\nUntypedStorage"),
    "a bytearray by a number": calling(b"__builtin__\nbytearray"),
    "deep lists": archive(b"\x80\x02" + b"]" * 9999 + b"a" * 9998 + b"."),
    "shared lists": shared(),
    "an epoch of another kind": saved({"epoch": "1", "values": {}}),
    "an epoch before the first": saved({"epoch": -1, "values": {}}),
    "no dict": saved([1, 2]),
}


def refusals(folder, content):
    """Return the messages by which a file is refused as a state, with a right digest, and as a model."""
    (folder / "000001-000001.state").write_bytes(hashlib.sha256(content).digest() + content)
    (folder / "best.pt").write_bytes(content)
    with pytest.raises(CheckpointError) as state:
        States(folder).get(1, 1)
    with pytest.raises(CheckpointError) as model:
        tn.load(folder / "best.pt", nn.Linear)
    return str(state.value), str(model.value)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_others_is_refused_by_name(tmp_path, kind):
    state, model = refusals(tmp_path, FILES[kind])
    assert "000001-000001.state" in state
    assert "best.pt" in model
    assert not any(word in state + model for word in ("weights_only", "safe_globals", "Traceback"))


def changed_model(folder, changes):
    """Return the path of a model of one Linear whose entries are changed, with the digest of what it holds."""
    save_model(path := folder / "best.pt", nn.Linear(2, 1), {})
    content = torch.load(path, weights_only=True) | changes
    content = {name: value for name, value in content.items() if value is not ABSENT and name != "sha256"}
    path.write_bytes(saved(content | {"sha256": digest_of(content)}))
    return path


def linear():
    return nn.Linear(2, 1)


def weights(tensor):
    return {"weights": {"weight": tensor, "bias": torch.zeros(1)}}


ABSENT = object()
STRANGE_ENTRIES = {
    **{f"no {name}": {name: ABSENT} for name in ("built", "operations", "calibration", "rows", "weights", "scale")},
    "a list of settings": {"built": {"config": [1], "labels": []}},
    "an operation without a kind": {"operations": [{"layer": "0"}]},
    "an operation of other facts": {"operations": [{"kind": "remove", "rank": 3}]},
    "a range of text": {"box": ["a", "b"]},
    "a number for weights": weights(1.0),
    "numbered weights": {"weights": {0: torch.zeros(1, 2), 1: torch.zeros(1)}},
    "a normalizer without facts": {"normalizer": {"mean": torch.zeros(2), "std": torch.ones(2)}},
    "a normalizer of no kind": {"normalizer": {}, "normalizer_facts": {"keys": [1]}},
    "a normalizer without tensors": {"normalizer": {}, "normalizer_facts": {"kind": "normalizer"}},
    "a scale of numbers": {"scale": {"mean": 0.0, "std": 1.0}},
    "a spread of other facts": {"spread": {"a": {"b": 1}}},
}


@pytest.mark.parametrize("kind", STRANGE_ENTRIES)
def test_a_model_with_strange_entries_is_refused_by_name(tmp_path, kind):
    path = changed_model(tmp_path, STRANGE_ENTRIES[kind])
    with pytest.raises(CheckpointError, match=r"best\.pt: (its|one of its) (entr|operations|normalizer)"):
        tn.load(path, linear)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int8, torch.bool], ids=str)
def test_weights_of_another_kind_are_not_cast(tmp_path, dtype):
    path = changed_model(tmp_path, weights(torch.ones(1, 2, dtype=dtype)))
    with pytest.raises(ValueError, match=rf'"weight" is \(1, 2\) of {dtype} in the file and \(1, 2\) of torch.float32'):
        tn.load(path, linear)


def test_weights_of_another_precision_are_read(tmp_path):
    path = changed_model(tmp_path, weights(torch.ones(1, 2, dtype=torch.float64)))
    assert tn.load(path, linear).weight.tolist() == [[1, 1]]


def test_a_name_in_a_model_is_shown_escaped(tmp_path):
    path = changed_model(
        tmp_path, {"weights": {"weight": torch.ones(1, 2), "bias": torch.ones(1), "\x1b[31m": torch.ones(1)}}
    )
    with pytest.raises(ValueError, match=r'"\\x1b\[31m" is \(1,\) in the file'):
        tn.load(path, linear)


def test_a_builder_that_fails_with_a_file_s_settings_is_named_with_them(tmp_path):
    path = changed_model(tmp_path, {"built": {"config": {"model": {"width": -4}}, "labels": []}})
    with pytest.raises(ValueError, match=r"best\.pt: holds a module .* \{'width': -4\}.* negative dimension"):
        tn.load(path, lambda width: nn.Linear(2, width))


def test_nothing_in_a_file_runs(tmp_path):
    content = saved({"epoch": 1, "values": Program(["touch", str(tmp_path / "ran")])})
    assert all("none of it was run" in text for text in refusals(tmp_path, content))
    assert not (tmp_path / "ran").exists()


def test_a_state_under_another_epoch_is_refused(tmp_path):
    content = saved({"epoch": 2, "values": {}})
    (tmp_path / "000001-000001.state").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(CheckpointError, match="after epoch 2, so it was renamed"):
        States(tmp_path).get(1, 1)


def test_a_state_that_repeats_its_rows_is_read(tmp_path):
    content = saved({"epoch": 1, "values": {"mask": torch.ones(1).expand(1000)}})
    (tmp_path / "000001-000001.state").write_bytes(hashlib.sha256(content).digest() + content)
    assert States(tmp_path).get(1, 1).values["mask"].sum() == 1000


@pytest.mark.parametrize("kind", ["a folder", "a pipe", "a device", "more than this machine's memory"])
def test_what_is_no_file_is_neither_read_nor_waited_for(tmp_path, kind):
    path = tmp_path / "best.pt"
    if kind == "a folder":
        path.mkdir()
    elif kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 2**43)
    with pytest.raises(CheckpointError, match=kind):
        tn.load(path, nn.Linear)


@pytest.mark.parametrize("name", ["states", "study.sqlite", "study.sqlite-wal", "final"])
def test_a_link_in_a_study_leads_nowhere(tmp_path, name):
    folder, away = tmp_path / "study", tmp_path / "away"
    folder.mkdir()
    (folder / name).symlink_to(away)
    with pytest.raises(StoreError, match=rf"{name}: is a symbolic link"):
        tn.Study(space=tn.SearchSpace(x=tn.Float(0, 1)), folder=folder, progress=False)
    assert not away.exists()
