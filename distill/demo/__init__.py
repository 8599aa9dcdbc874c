"""The page of `symdistill demo`: examples, reading, what is shown of it, and the page itself."""
