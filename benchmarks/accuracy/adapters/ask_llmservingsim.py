"""LLMServingSim 2: not asked. This file says why, so that the page counts its rows as not answered."""

from __future__ import annotations

from protocol import main_unasked

NAME = "LLMServingSim 2"
NEEDS = "its container with ASTRA-Sim and profiles of layers of its own GPUs"
WHY = "it needs a container with ASTRA-Sim, and has profiles of RTX PRO 6000 and RTX 4090 alone"


if __name__ == "__main__":
    main_unasked("serving", WHY)
