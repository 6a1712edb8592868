"""Where rows come from: tables that the caller holds, and files; always as Arrow record batches."""

from imgtag_pipeline.source.files import open_files
from imgtag_pipeline.source.tables import open_source, url_column

__all__ = ["open_files", "open_source", "url_column"]
