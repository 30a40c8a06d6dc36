"""Settings of tests that draw their examples: the same few in the suite, many new ones in a long run."""

import os

from hypothesis import HealthCheck, Phase, settings

TIMES = int(os.environ.get("TUNEFLOW_FUZZ", "0"))  # how many times as many examples, drawn anew; 0 for the suite's


def examples(count, **more):
    """Settings for `count` examples, the same each time; with TUNEFLOW_FUZZ=n for n times as many, drawn anew."""
    return settings(
        max_examples=count * max(TIMES, 1),
        derandomize=not TIMES,
        database=None,
        deadline=None,
        print_blob=True,
        phases=(Phase.generate, Phase.shrink) if TIMES else (Phase.generate,),  # a long run shrinks what it finds
        suppress_health_check=list(HealthCheck),
        **more,
    )


def accepts(part, study):
    """True unless a searcher or a scheduler refuses to work on a study, with a message."""
    try:
        part.check(study)
    except ValueError as error:
        return not str(error)
    return True
