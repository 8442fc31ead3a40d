"""Every figure of the page as files for a paper: PNG and PDF at a journal's width, its data as csv."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from fatescal.report.csv_table import write_csv
from fatescal.report.figure import STYLE, WIDTH, Plot, laid_out
from fatescal.report.registry import OWN, made_sections
from fatescal.report.results import Results
from fatescal.report.section import ReportSection
from fatescal.storage import atomic

log = logging.getLogger(__name__)
logging.getLogger("fontTools").setLevel(logging.WARNING)  # a line for each glyph that a PDF embeds
JOURNAL = 180 / 25.4  # inches of a figure of two columns
FONT = 0.78  # of the page's sizes: 9 pt become 7 pt
DPI = 300
METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}


def write(results: Results, folder: Path, made: Iterable[ReportSection] | None = None) -> list[Path]:
    """Write ``folder/NAME.png``, ``.pdf`` and ``.csv`` of every figure; return their paths.

    The same results give the same bytes.

    Parameters
    ----------
    made : iterable of ReportSection, optional
        Sections of a page that is written: their figures are not drawn again, and end at the journal's size.
    """
    paths = []
    for plot in plots(results, made):
        folder.mkdir(parents=True, exist_ok=True)
        header, rows = plot.data()
        write_csv(folder / f"{plot.name}.csv", header, rows)
        figure = for_journal(plot.figure)
        with laid_out(figure), rc_context(STYLE | {"pdf.fonttype": 42}):
            for kind, metadata in METADATA.items():
                save = partial(figure.savefig, format=kind, dpi=DPI, metadata=metadata)
                atomic.write(folder / f"{plot.name}.{kind}", save)
        paths += [folder / f"{plot.name}.{kind}" for kind in ("png", "pdf", "csv")]
    return paths


def plots(results: Results, made: Iterable[ReportSection] | None = None) -> Iterator[Plot]:
    """Yield all figures; a section of another package that fails is logged and left out."""
    for section in made or made_sections():
        try:
            yield from section.figures(results)
        except Exception as error:
            if isinstance(section, OWN):
                raise
            log.warning("no files of the figures of section %s, which failed: %s", section.kind, error)


def for_journal(figure: Figure) -> Figure:
    """Return the figure at the width of a journal's page, its letters larger beside it than on the screen."""
    scale = JOURNAL / WIDTH
    figure.set_size_inches(figure.get_figwidth() * scale, figure.get_figheight() * scale * 1.1)
    axes = [axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)]
    sizes = {axis: float(labels[0].get_fontsize()) for axis in axes if (labels := axis.get_ticklabels())}
    for text in figure.findobj(Text):
        if isinstance(text, Text):
            text.set_fontsize(float(text.get_fontsize()) * FONT)
    for axis, size in sizes.items():  # also of labels that are made only when it is drawn
        axis.set_tick_params(labelsize=size * FONT)
    return figure
