"""The verb demo."""

import argparse
from pathlib import Path
from typing import Any

from tuneflow.commands.parser import added, as_path, even, positive, whole

TEXT = "compare fixed settings, nearest neighbors and four searches on the bundled digits (about a minute)"
TECHNIQUES = "make one trained network smaller and faster, by each technique and by several (about a minute)"


def add(verbs: Any) -> None:
    """Add the verb."""
    verb = added(verbs, "demo", TEXT, run, "demo --folder runs/demo")
    verb.add_argument(
        "--folder", type=as_path, default=Path("runs/demo"), help="everything is written inside; default %(default)s"
    )
    verb.add_argument("--trials", type=even, default=8, help=argparse.SUPPRESS)
    verb.add_argument("--epochs", type=positive, default=5, help=argparse.SUPPRESS)
    verb.add_argument("--seed", type=whole, default=0, help="the first of three; default %(default)s")
    verb.add_argument("--techniques", action="store_true", help=TECHNIQUES)


def run(options: argparse.Namespace) -> None:
    """Train and compare; import the demo only now, so that other verbs do not pay for it."""
    if options.techniques:
        from tuneflow.demo_techniques import demo_techniques

        demo_techniques(options.folder, seed=options.seed)
        return
    from tuneflow.demo import demo

    demo(options.folder, options.trials, options.epochs, options.seed)
