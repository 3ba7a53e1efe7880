"""Units, genes, landmark panel, filters and splits of expression profiles."""
