"""What answers /metrics on a server: a socket of systemd, and the release tool, which runs once for each request."""

from contract import paths
from settings import StackSettings
from templates import render


def host_files(stack: StackSettings, folder: str) -> dict[str, str]:
    """File name → text; empty without metrics.port. folder: that holds the release tool's folder on the server."""
    port, unit = stack.metrics.port, paths.METRICS_UNIT
    if port is None:
        return {}
    # An IPv4 address of its own would have to be found out, and the security group keeps others out.
    listen = f"{'0.0.0.0' if stack.access.metrics else '127.0.0.1'}:{port}"  # noqa: S104
    values = {"listen": listen, "tool": f"{folder}/tool/release.py", "unit": unit}
    return {
        f"{unit}.socket": render("templates/metrics/metrics.socket.j2", **values),
        f"{unit}@.service": render("templates/metrics/metrics.service.j2", **values),
    }
