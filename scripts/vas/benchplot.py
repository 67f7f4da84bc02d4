# SPDX-License-Identifier: GPL-2.0-or-later
"""The pictures of ./vas bench and ./vas sample, by matplotlib."""

import io

WIDTH, HEIGHT = 10, 4.5


class PlotError(Exception):
    """One sentence that says why there can be no picture."""


def _matplotlib():
    """matplotlib, for files alone; imported only if it is needed."""
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.ticker
    except ImportError as error:
        raise PlotError(f"pictures need the package python3-matplotlib ({error}); the command "
                        "installs it if it is given --svg or --report") from error
    # The same numbers make the same file.
    matplotlib.rcParams.update({"svg.hashsalt": "vas", "font.size": 9})
    return matplotlib


def available():
    """A PlotError if there can be no picture."""
    _matplotlib()


def plain_log(axis):
    """Make @axis, an x or y axis, logarithmic, with plain numbers at 1, 2, 5, 10 and so on."""
    ticker = _matplotlib().ticker
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, position: f"{value:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def svg(measurement, result):
    """The picture that the module @measurement draws of its @result."""
    height = measurement.height() if hasattr(measurement, "height") else HEIGHT
    figure = _matplotlib().figure.Figure(figsize=(WIDTH, height), layout="constrained")
    measurement.draw(result, figure)
    with io.StringIO() as file:
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return file.getvalue()
