"""The plot of a study's scores over two parameters: a model's surface, and the trials."""

from typing import TYPE_CHECKING, Any

import numpy as np

from tuneflow.analysis.record import Recorded, StudyRecord
from tuneflow.analysis.surrogate import Surrogate
from tuneflow.errors import StudyError, listed
from tuneflow.plot.canvas import Ink, axes_of, ink_of, literal
from tuneflow.plot.labels import name_points
from tuneflow.plot.parameter_columns import ParameterColumn, columns_of
from tuneflow.plot.scaling import set_scale
from tuneflow.plot.subject import Subject, subject_of
from tuneflow.space.coordinates import Array
from tuneflow.space.permutation import Permutation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FINE = 40  # points of a continuous parameter at which the surface is computed
BANDS = 8  # of the surface, at most
UNSURE = 4.0  # standard deviations, a range of which is that of plus and minus two

Surface = tuple[tuple[Array, Array], Array, Array]  # places on both axes, mean and standard deviation, shape (b, a)


def contour(
    study: Recorded | StudyRecord, x: str | None = None, y: str | None = None, metric: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":  # fmt: skip
    """Draw a Gaussian process's mean of the score over two parameters, and where the trials are.

    All other parameters have the values of the best trial, so the surface is a cut through it; trials that differ from
    it in other parameters need not fit. It is dotted where the model knows little: two standard deviations up and down
    are more than the whole range of the surface. The three best trials are named; crosses are failures.

    Args:
        study: a study, or a folder that `tn.open` reads.
        x: dotted name of the parameter of the horizontal axis, or the end of it. None with `y`: the only two.
        y: that of the vertical axis.
        metric: one of those that the study is tuned for; None for the first.
        ax: the axes to draw into; None for those of a new figure.

    Returns:
        The axes, with the values of the parameters, or the indices of options. The scale of the score, in the metric's
        units, is a second axes of the figure.

    Raises:
        NothingFinished: too few trials have a score for a model.
        StudyError: no trial is the best one yet in which both parameters are active.
        ValueError: the space has not exactly two parameters and none are named, or has no such parameter; one is a
            Permutation; or the study is not tuned for the metric.
        TypeError: `study` is not a study.
        ImportError: matplotlib is not installed.
    """
    subject = subject_of(study, metric, "contour")
    across, up = _columns(subject.record, x, y)
    surface = _surface(subject, across, up)
    ax = axes_of(ax)
    ink = ink_of(ax)
    set_scale(ax, "x", across.scale)
    set_scale(ax, "y", up.scale)
    smooth = min(across.parameter.levels, up.parameter.levels) > FINE
    _draw_surface(ax, surface, subject, ink, smooth)
    _draw_doubt(ax, surface, subject, ink)
    _draw_trials(ax, across.drawn(across.units), up.drawn(up.units), subject, ink)
    ax.set_xlabel(literal(across.name))
    ax.set_ylabel(literal(up.name))
    return ax


def _columns(record: StudyRecord, x: str | None, y: str | None) -> tuple[ParameterColumn, ParameterColumn]:
    """Return the two parameters."""
    names = None if x is None and y is None else [name for name in (x, y) if name is not None]
    columns = columns_of(record, names)
    if len(columns) != 2 or columns[0].place == columns[1].place:
        every = listed(record.space.parameters)
        if len(record.space.parameters) < 2:
            raise ValueError(
                f"tn.plot.contour needs two parameters, the space has {every} alone; tn.plot.slice draws it."
            )
        got = listed(names) if names else f"{len(columns)} of the space"
        raise ValueError(f"tn.plot.contour needs two parameters, got {got}; name x= and y= of {every}.")
    for column in columns:
        if isinstance(record.space.coordinates[column.place].whole, Permutation):
            raise ValueError(f"tn.plot.contour: {column.name} is a Permutation, which has no axis; tn.plot.slice has.")
    return columns[0], columns[1]


def _surface(
    subject: Subject, across: ParameterColumn, up: ParameterColumn
) -> tuple[tuple[Array, Array], Array, Array]:
    """Return the model's surface over two parameters."""
    model = Surrogate(subject.record, subject.metric)
    units = [_units(across), _units(up)]
    points = np.repeat(_best_unit(subject, across, up)[None], len(units[0]) * len(units[1]), axis=0)
    mesh = np.meshgrid(*units)
    points[:, across.place], points[:, up.place] = mesh[0].ravel(), mesh[1].ravel()
    means, errors = model.predict(points)
    shape = mesh[0].shape
    return (across.drawn(units[0]), up.drawn(units[1])), means.reshape(shape), errors.reshape(shape)


def _best_unit(subject: Subject, across: ParameterColumn, up: ParameterColumn) -> Array:
    """Return the coordinates of the best trial in which both parameters are active."""
    scores = np.where(subject.within & np.isfinite(across.units) & np.isfinite(up.units), subject.scores, np.nan)
    if np.isnan(scores).all():
        raise StudyError(f"tn.plot.contour: no trial with a score has both {across.name} and {up.name}; name others.")
    best = np.nanargmax(scores) if subject.maximize else np.nanargmin(scores)
    return np.array(subject.record.history.units[best])


def _units(column: ParameterColumn) -> Array:
    """Return the coordinates at which the surface is computed, in the order of their places on the axis."""
    if column.parameter.levels > FINE:
        return np.linspace(0.0, 1.0, FINE)
    units = np.array([column.parameter.to_unit(value) for value in column.parameter.grid(int(column.parameter.levels))])
    return units[np.argsort(column.drawn(units))]


def _draw_surface(ax: "Axes", surface: Surface, subject: Subject, ink: Ink, smooth: bool) -> None:
    """Draw the mean in bands between the round numbers of the scores' scale; beyond its ends as at them."""
    from matplotlib.colors import BoundaryNorm, LinearSegmentedColormap

    (across, up), means, _ = surface
    ticks = subject.plain_axis.ticks(BANDS)
    levels = sorted({*subject.plain_axis.ends, *(value for value, _ in ticks)})
    colors = LinearSegmentedColormap.from_list("score", [ink.ground, ink.accent][:: 1 if subject.maximize else -1])
    norm = BoundaryNorm(levels, colors.N, extend="both")
    if smooth:
        cells: Any = ax.contourf(across, up, means, levels, cmap=colors, norm=norm, extend="both", alpha=0.85, zorder=0)
    else:
        cells = ax.pcolormesh(across, up, means, cmap=colors, norm=norm, shading="nearest", alpha=0.85, zorder=0)
    figure: Any = ax.get_figure(root=True)
    bar: Any = figure.colorbar(cells, ax=ax, label=literal(subject.metric), drawedges=False)
    bar.set_ticks([value for value, _ in ticks], labels=[text for _, text in ticks])
    bar.outline.set_visible(False)


def _draw_doubt(ax: "Axes", surface: Surface, subject: Subject, ink: Ink) -> None:
    """Draw a dot wherever the model knows little."""
    (across, up), means, errors = surface
    unsure = UNSURE * errors > np.ptp(np.clip(means, *subject.plain_axis.ends))
    unsure[1 : len(up) if len(up) == FINE else 0 : 2] = False  # every other point of a continuous parameter is enough
    unsure[:, 1 : len(across) if len(across) == FINE else 0 : 2] = False
    rows, columns = np.nonzero(unsure)
    if len(rows):
        ax.plot(across[columns], up[rows], ".", color=ink.quiet, ms=1.5, zorder=1, label="little known")
        ax.set_title("dotted: the model knows little", loc="left", fontsize="small", color=ink.quiet)


def _draw_trials(ax: "Axes", across: Array, up: Array, subject: Subject, ink: Ink) -> None:
    named = [number for number in subject.leaders if np.isfinite(across[number] + up[number])]
    others = [number for number in subject.scored.tolist() if number not in named]
    for label, marker, numbers, color in (
        ("trials", "o", others, ink.ground),
        ("best", "o", named, ink.second),
        ("failed", "x", subject.worthless, ink.bad),
    ):
        edge = color if marker == "x" else ink.text
        for drawn in ax.plot(across[numbers], up[numbers], marker, color=color, ms=5, mec=edge, mew=0.8, label=label):
            drawn.set(zorder=4, clip_on=False, in_layout=False)
    points = np.column_stack([across[named], up[named]])
    name_points(ax, points, [str(number) for number in named], ink.text)
