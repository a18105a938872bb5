"""The operator's YAML: read with positions, checked whole, never half-applied."""
