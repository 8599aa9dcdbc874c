"""Labelling: readers read pictures, and what they read is written beside them with how sure they were."""
