"""Tencent image tagging, versions 1 and 2."""
