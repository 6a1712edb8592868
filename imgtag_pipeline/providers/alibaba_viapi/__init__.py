"""Alibaba Cloud VIAPI: the image recognition actions, called at once or as jobs."""
