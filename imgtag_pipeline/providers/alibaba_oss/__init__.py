"""Alibaba Cloud OSS: `image/labels` and `imm/tagimage` of objects in a bucket."""
