"""Values and helpers that know no stage of a run."""
