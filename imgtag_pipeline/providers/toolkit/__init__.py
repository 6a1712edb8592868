"""What several vendors' files share: keys, codes, decoding, limits."""
