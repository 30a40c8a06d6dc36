"""Metrics of a module: its size, its arithmetic and its speed."""

__all__ = list[str]()
