"""Several hosts on this machine: network namespaces, each with one cable to a common switch. Linux and root only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager


def why_not() -> str:
    """Why hosts cannot be had here; empty if they can."""
    if sys.platform != "linux" or shutil.which("ip") is None:
        return "network namespaces need Linux and the command ip"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = f"geopov-{os.getpid()}-probe"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode:
        return f"network namespaces are not allowed: {made.stderr.strip()}"
    _ip("netns", "del", probe)
    return ""


class Hosts:
    """The hosts of a network by name; the n-th has the address 10.77.0.n."""

    def __init__(self, names: Sequence[str]) -> None:
        self._prefix = f"geopov-{os.getpid()}"
        self.address = {name: f"10.77.0.{n}" for n, name in enumerate(names, start=1)}

    def namespace(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def command(self, name: str, *command: str) -> list[str]:
        """A command as it runs on a host."""
        return ["ip", "netns", "exec", self.namespace(name), *command]

    def cut(self, name: str) -> None:
        """Pull a host's cable out of the switch: no packet of it arrives any more, and none tells that it is gone."""
        _ip("-n", self.namespace("switch"), "link", "set", f"to-{name}", "down")


@contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Hosts of these names (at most 10 letters each) on one network that nothing else is on."""
    network = Hosts(names)
    switch = network.namespace("switch")
    with ExitStack() as stack:
        for name in ("switch", *names):
            _ip("netns", "add", network.namespace(name))
            stack.callback(_ip, "netns", "del", network.namespace(name))
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for name, address in network.address.items():
            own = network.namespace(name)
            _ip("-n", switch, "link", "add", f"to-{name}", "type", "veth", "peer", "name", "cable", "netns", own)
            _ip("-n", switch, "link", "set", f"to-{name}", "master", "bridge", "up")
            _ip("-n", own, "address", "add", f"{address}/24", "dev", "cable")
            _ip("-n", own, "link", "set", "cable", "up")
            _ip("-n", own, "link", "set", "lo", "up")
        yield network


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
