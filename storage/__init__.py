"""The bank on disk: words, codecs, shards, manifests; nothing else touches its files."""
