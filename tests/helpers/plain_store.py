"""A store as plain Python objects, the reference of what the stores of the library have to do."""

import copy
from dataclasses import dataclass, field, replace

from tuneflow.history.trial import Trial


@dataclass
class Row:
    """What is written of one number.

    Attributes:
        owner: the store that it belongs to; None for none.
        writer: the store that changed it last; None for none, as after `recover`.
        trial: None as long as the number is claimed only.
        reports: of a live trial, by epoch.
        tries: how often in a row its owner died without a report.
        changed: counts the changes of the whole file.
    """

    owner: object
    writer: object
    trial: Trial | None = None
    reports: dict = field(default_factory=dict)
    tries: int = 0
    changed: int = 0

    @property
    def status(self):
        return self.trial.status if self.trial else "CLAIMED"

    def as_trial(self):
        """The trial as it is read: the scores of a live one follow from its reports."""
        if self.trial.ended:
            return self.trial
        return replace(self.trial, metrics={}, errors={}, reports=tuple(self.reports[e] for e in sorted(self.reports)))


@dataclass
class PlainFile:
    """What all stores of one study share."""

    rows: dict = field(default_factory=dict)
    kept: dict = field(default_factory=dict)
    queue: list = field(default_factory=list)  # [configuration, number of the trial that took it or None]
    alive: set = field(default_factory=set)  # stores that are open
    holder: object = None
    count: int = 0  # of changes

    def change(self, row):
        self.count += 1
        row.changed = self.count


class PlainStore:
    """A Store of a PlainFile. Verbs on trials that are committed write what was gathered before, too."""

    def __init__(self, file):
        self.file, self.pending, self.lost = file, [], []
        self.seen = None  # the change that was read last
        file.alive.add(self)

    # What is kept by key.

    def remember(self, key, value):
        return self.file.kept.setdefault(key, copy.deepcopy(value))

    def recall(self, key):
        return self.file.kept.get(key)

    def recall_all(self, prefix):
        return {key: self.file.kept[key] for key in sorted(self.file.kept) if key.startswith(prefix)}

    def note(self, key, value):
        self.pending = [write for write in self.pending if write[:2] != ("note", key)]
        self.pending.append(("note", key, copy.deepcopy(value)))

    def exchange(self, key, before, value):
        self.flush()
        same = self.file.kept.get(key) == before
        if same:
            self.file.kept[key] = copy.deepcopy(value)
        return same

    # Who runs the study.

    def hold(self):
        self.flush()
        if self.file.holder in self.file.alive - {self}:
            return False
        self.file.holder = self
        return True

    def let_go(self):
        if self.file.holder is self:
            self.file.holder = None

    # Numbers.

    def claim(self, limit):
        self.flush()
        rows = self.file.rows
        orphans = [n for n, row in rows.items() if row.owner is None and row.status == "CLAIMED"]
        number = min(orphans, default=max(rows, default=-1) + 1)
        if number >= limit:
            return None
        row = rows.setdefault(number, Row(self, self))
        row.owner = row.writer = self
        self.file.change(row)
        return number

    def release(self, number):
        self.flush()
        row = self.file.rows.get(number)
        if row is None or row.owner is not self or row.status != "CLAIMED":
            return
        if number == max(self.file.rows):
            del self.file.rows[number]
        else:
            row.owner = None

    def enqueue(self, config):
        self.file.queue.append([config, None])

    def next_queued(self, number):
        mine = [item for item in self.file.queue if item[1] == number]
        free = [item for item in self.file.queue if item[1] is None]
        for item in (mine or free)[:1]:
            item[1] = number
            return item[0]
        return None

    # Trials.

    def enter(self, trial, once):
        if not once:
            self.put(trial)
            return True
        self.flush()
        for number, row in self.file.rows.items():
            if row.trial and number != trial.number and not row.trial.parent and row.trial.config == trial.config:
                return False
        self._put(trial)
        return True

    def take(self, number):
        self.flush()
        row = self.file.rows.get(number)
        if row is None or row.status != "PAUSED" or row.owner is not None:
            return False
        row.owner = row.writer = self
        row.trial = replace(row.trial, status="RUNNING")
        self.file.change(row)
        return True

    def seize(self, number):
        self.flush()
        row = self.file.rows.get(number)
        if row is None or row.status != "RUNNING" or row.owner is self:
            return False
        row.owner = self
        self.file.change(row)
        return True

    def recover(self):
        freed = []
        for number, row in self.file.rows.items():
            if row.owner is not None and row.owner not in self.file.alive:
                row.owner = row.writer = None
                row.tries += 1
                if row.status == "RUNNING":
                    row.trial = replace(row.trial, status="PAUSED")
                self.file.change(row)
                freed.append((number, row.tries))
        return sorted(freed)

    def put(self, trial):
        if trial.ended:
            self.pending = [write for write in self.pending if write[1] != trial.number]
        self.pending.append(("put", trial.number, trial))

    def report(self, number, report):
        self.pending.append(("report", number, report))

    def forget(self, number, after):
        self.pending.append(("forget", number, after))

    def commit(self):
        self.flush()
        lost, self.lost = self.lost, []
        return lost

    def close(self):
        self.flush()
        self.crash()

    def crash(self):
        self.pending = []
        self.file.alive.discard(self)

    def changes(self):
        """The trials that others changed since the last call; at first all."""
        rows = [row for row in self.file.rows.values() if row.trial]
        if self.seen is not None:
            rows = [row for row in rows if row.changed > self.seen and row.writer is not self]
        self.seen = self.file.count
        return [row.as_trial() for row in sorted(rows, key=lambda row: row.changed)]

    # Inside.

    def flush(self):
        pending, self.pending = self.pending, []
        for kind, key, value in pending:
            if kind == "note":
                self.file.kept[key] = value
            elif kind == "put":
                self._put(value)
            else:
                self._change_reports(kind, key, value)

    def _owned(self, number):
        """The row of a number of this store's; None, and the number is lost, where it is not."""
        row = self.file.rows.get(number)
        if row is not None and row.owner is self:
            return row
        if number not in self.lost:
            self.lost.append(number)
        return None

    def _put(self, trial):
        row = self._owned(trial.number)
        if row is None:
            return
        row.trial, row.writer = trial, self
        row.owner = self if trial.status == "RUNNING" else None
        if trial.ended:
            row.reports = {}
        self.file.change(row)

    def _change_reports(self, kind, number, value):
        if kind == "report":
            if (row := self._owned(number)) is not None:
                row.reports[value.epoch], row.tries, row.writer = value, 0, self
                self.file.change(row)
            return
        row = self.file.rows.get(number)
        if row is not None and row.owner is self:
            row.reports = {epoch: report for epoch, report in row.reports.items() if epoch <= value}
