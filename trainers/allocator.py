"""Has the process keep the memory it frees.

A training step frees hundreds of megabytes and asks for them again in the next. The C library gives large blocks back
to the system at once, and the system hands them out zeroed, page by page: a tenth to a fifth of a step on a CPU
(BUILD_NOTES.md, "Measured"). Only the C library of GNU/Linux has these settings; elsewhere nothing happens.
"""

import ctypes

# From malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> None:
    """Asks the allocator to keep and reuse large blocks; takes effect for what is allocated from now on."""
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        return
    # Large blocks come from the one heap that can grow without bound, instead of from mappings of their own.
    for option, value in ((_MMAP_MAX, 0), (_ARENA_MAX, 1), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 * 2**20)):
        set_option(option, value)
