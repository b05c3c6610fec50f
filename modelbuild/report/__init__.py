"""The report of one model: a frozen record in, pages for people and for CI out."""

from modelbuild.report.closing import closing_lines
from modelbuild.report.files import write
from modelbuild.report.record import PlatformRow, Report, TargetRow, from_json, to_json

__all__ = [
    "PlatformRow",
    "Report",
    "TargetRow",
    "closing_lines",
    "from_json",
    "to_json",
    "write",
]
