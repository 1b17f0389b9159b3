"""The report: one page that a minister can open and a referee can check, from what ``evaluate`` wrote."""

from geopov.regression.report.page import Run, render_report

__all__ = ["Run", "render_report"]
