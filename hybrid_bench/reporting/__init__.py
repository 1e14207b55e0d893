"""Reporting: from an analysis to tables, figures and pages."""
