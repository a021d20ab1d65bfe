"""Figures, each drawn by one function from plain numbers into a PNG and an SVG file.

No state of matplotlib is touched, and the same numbers give the same bytes with the same matplotlib.
"""

from snndeploy.figures.frontier import Point, pareto
from snndeploy.figures.placements import Evaluated, matrix
from snndeploy.figures.progress import Curve, best_so_far
from snndeploy.figures.schedule import Arrival, Timetable, timetable
from snndeploy.figures.tradeoff import Line, tradeoff
from snndeploy.figures.wiring import connections

__all__ = [
    "Arrival",
    "Curve",
    "Evaluated",
    "Line",
    "Point",
    "Timetable",
    "best_so_far",
    "connections",
    "matrix",
    "pareto",
    "timetable",
    "tradeoff",
]
