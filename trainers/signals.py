"""What SIGTERM and Ctrl-C do to a run while it is not between two steps."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

from mtl_keras.saving import StopOnSignal


@contextlib.contextmanager
def ending_at_once(status: int, saying: str) -> Iterator[None]:
    """While it lasts, SIGTERM and SIGINT end the process with a status and a line, in the middle of a compilation too.

    Python runs handlers in the main thread, between its own instructions: not before a compiler is done. So it is a
    thread that ends the process. Whoever sets other handlers meanwhile has the signals until they are set back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    came = threading.Event()

    def ours(number, frame) -> None:
        del number, frame
        came.set()

    def wait() -> None:
        while number := woken.recv(1):
            if came.is_set() or signal.getsignal(number[0]) is ours:
                try:
                    print(saying, flush=True)
                finally:
                    os._exit(status)

    woken, waking = socket.socketpair()
    waking.setblocking(False)
    with woken, waking:
        handlers = {number: signal.signal(number, ours) for number in StopOnSignal.SIGNALS}
        woken_before = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        thread = threading.Thread(target=wait, name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken_before)
            for number, handler in handlers.items():
                signal.signal(number, handler)
            waking.shutdown(socket.SHUT_WR)
            thread.join()
