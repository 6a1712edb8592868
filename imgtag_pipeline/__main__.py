"""`python -m imgtag_pipeline` is `imgtag`."""

from imgtag_pipeline.cli import main

main()
