"""From float32 to the number formats: grids chosen on data, rounding, certificates, reports."""
