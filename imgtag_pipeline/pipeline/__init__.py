"""One run from the caller's table to the table that is given back: stages, records of what was spent, shapes."""
