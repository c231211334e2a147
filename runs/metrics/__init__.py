"""What runs log: records applied to rows, series as packed columns, and what charts and tables read of them."""

from runs.metrics.applying import apply_records, apply_samples
from runs.metrics.reading import Pin, buckets, pinned, points, since, spark, table

__all__ = ["Pin", "apply_records", "apply_samples", "buckets", "pinned", "points", "since", "spark", "table"]
