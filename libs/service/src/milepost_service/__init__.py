"""What every Milepost service does around its work: read its settings, write its logs, answer health and metrics."""
