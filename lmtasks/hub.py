"""The Hugging Face hub: whether it answers.

Its client retries each request for half a minute where there is no network. Whoever reads from the hub asks once here,
and then reads the cache alone.
"""

from __future__ import annotations

from lmtasks.errors import one_line

TIMEOUT = 10  # seconds that the hub has to answer


def why_no_answer() -> str:
    """Return why the hub does not answer, "" if it does."""
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception as error:  # of requests or httpx: the client's version decides
        return one_line(error)
    return ""
