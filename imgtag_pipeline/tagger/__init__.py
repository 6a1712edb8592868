"""Part of imgtag_pipeline."""
