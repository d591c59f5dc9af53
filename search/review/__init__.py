"""Looking at a search: tables, figures, the report."""
