"""Room: deidentification."""
