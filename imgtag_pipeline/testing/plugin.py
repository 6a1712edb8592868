"""The pytest plugin: fixtures for users of the package and for its own tests."""
