# The model that answers, or what stands for it here.

from __future__ import annotations

import os
from collections.abc import AsyncIterator

from anyio import sleep


async def generate(prompt: str) -> AsyncIterator[str]:
    """Stand for the model."""
    text = f"You asked: {prompt}. " + "Light of short wavelengths is scattered most, and so the sky is blue. " * 5
    for number, word in enumerate(text.split()):
        if prompt == "error" and number == 10:
            raise RuntimeError("the model is out of breath")  # it is in the log, and nowhere else
        yield f"{word} "
        await sleep(float(os.environ.get("CHAT_PAUSE", "0.1")))
