"""Losses: how far a student's stages are from a teacher's guidance."""

from __future__ import annotations

from losses.heads import GuidanceHeads
from losses.lcl import lcl
from losses.symmetric import SymmetricOptions, symmetric_terms

__all__ = ["GuidanceHeads", "SymmetricOptions", "lcl", "symmetric_terms"]
