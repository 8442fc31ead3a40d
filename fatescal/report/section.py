"""What a section of the report is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from fatescal.report.figure import Plot
from fatescal.report.markup import Markup, section
from fatescal.report.results import Results


class ReportSection(ABC):
    """One section of the page, made from the results of a run alone.

    Attributes
    ----------
    kind : str
        Its name, which is its anchor in the page.
    title : str
        Its heading, and its link at the head of the page.
    needs : str
        What a run must have reached for it, '' where it is always there.
    """

    kind: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[str] = ""

    def __init__(self) -> None:
        self._figures: Sequence[Plot] | None = None

    def figures(self, results: Results) -> Sequence[Plot]:
        """Return `plots`, made once for page and files, so that each figure is drawn once."""
        if self._figures is None:
            self._figures = tuple(self.plots(results))
        return self._figures

    def plots(self, results: Results) -> Sequence[Plot]:
        """Return the figures of the section, which `report` writes to `RUN/figures` too.

        `content` shows those it wants by their `shown`, from `figures`.
        """
        return ()

    @abstractmethod
    def content(self, results: Results) -> Sequence[object] | None:
        """Return what stands below the heading, None before the run has reached what the section needs.

        Markup (`markup`, `figure.embed`) goes into the page as it is, other text is escaped.
        """

    def render(self, results: Results) -> Markup | None:
        """Return the section with its heading, None where there is nothing to show."""
        content = self.content(results)
        return None if content is None else section(self.kind, self.title, *content)
