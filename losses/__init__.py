"""Losses between a student's stages and a teacher's guidance; `losses.registry` knows them by name."""

from __future__ import annotations

from losses import columns, consistency, kd, symmetric
from losses.registry import register_loss

__all__ = ["columns", "consistency", "kd", "register_loss", "symmetric"]
