"""Pictures of results: overlays and contact sheets."""

from vidtrack.reports.overlay import contact_sheet, draw_masks

__all__ = ["contact_sheet", "draw_masks"]
