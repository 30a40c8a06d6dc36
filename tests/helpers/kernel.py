"""A real kernel of Jupyter, in a process that is forked from this one, and the outputs of cells that it runs."""

import os
import signal
import time
from pathlib import Path

from tests.helpers.forked import start

LAUNCH = "import sys\nfrom ipykernel.kernelapp import IPKernelApp\nIPKernelApp.launch_instance(['-f', sys.argv[1]])\n"


class Kernel:
    """A kernel, which ends with the block; `run` runs a cell and returns its messages, (kind, content)."""

    def __init__(self, folder):
        from jupyter_client.blocking import BlockingKernelClient

        folder = Path(folder)
        (folder / "launch.py").write_text(LAUNCH)
        connection = folder / "connection.json"
        environment = {"IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder), "HOME": str(folder)}
        self.process = start(folder / "launch.py", connection, cwd=folder, **environment)
        while not (connection.exists() and connection.read_text().endswith("}")):
            time.sleep(0.01)
        self.client = BlockingKernelClient(connection_file=str(connection))
        self.client.load_connection_file()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=30)

    def run(self, code):
        messages = []
        self.client.execute_interactive(
            code,
            timeout=30,
            output_hook=lambda message: messages.append((message["msg_type"], message["content"])),
            allow_stdin=False,
        )
        return [(kind, content) for kind, content in messages if kind not in ("status", "execute_input")]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stop_channels()
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
