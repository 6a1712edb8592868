"""The vendors' signatures, one file per scheme: pure functions, with time and nonce handed in, that sign and verify."""
