"""Rendered scene words: glyphs, layout, warp, colours, backgrounds, effects; `WordRenderer` puts them together."""
