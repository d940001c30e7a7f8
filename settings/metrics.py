"""The numbers of each server for Prometheus: at which port, and who may read them."""

from collections.abc import Iterable, Iterator

from pydantic import Field

from schema.base import AppPort, Model, Rule


class Metrics(Model):
    port: AppPort | None = Field(
        None,
        description="Port at which each server answers /metrics in Prometheus' text form, such as 9464; none: it does "
        "not. Only the server itself reaches the port, unless access.metrics names others.",
    )

    def rules(self, ports: Iterable[tuple[str, int]], is_opened: bool) -> Iterator[Rule]:
        """Yield the rules of the port. ports: setting and number of each port of the servers.

        is_opened: whether access.metrics lets others in.
        """
        yield "access.metrics", is_opened and self.port is None, "set, but there are no metrics", "metrics.port"
        for key, number in ports:
            yield "metrics.port", number == self.port, f"port {number} is taken by {key}", "another port"
