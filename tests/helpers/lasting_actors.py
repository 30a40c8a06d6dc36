"""Actors of a Ray cluster that several tests share."""

from tuneflow.execute.ray.executor import RayExecutor


class LastingActors(RayExecutor):
    """Goes on after `close`, so that several tests and studies share actors that take seconds to start."""

    def close(self):
        self._waiting.clear()
        for actor in self._workers:
            actor.stop()

    def end(self):
        super().close()
