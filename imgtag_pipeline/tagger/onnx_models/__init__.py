"""Runs any ONNX image classifier or tagger: what it wants to see, one session, and tags from what it says."""
