"""Commands of bitmaps."""
