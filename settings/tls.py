"""What a site's certificate is and how nginx speaks TLS with it."""

from collections.abc import Iterator, Sequence

from pydantic import Field, SecretStr

from schema import text
from schema.base import Model, Port, Rule

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Tls(Model):
    """One certificate for each domain: given, or asked for by the machine itself (ACME, RFC 8555)."""

    certificate: str | None = Field(
        None, description="The domain's certificate and its intermediate certificates: PEM text, or a file with it."
    )
    private_key: SecretStr | None = Field(
        None, description="Private key of the certificate: PEM text, or a file with it. A secret."
    )
    acme: bool = Field(
        False,
        description="The machine requests the certificate from a CA and renews it; the CA checks the "
        "domain on port 80.",
    )
    directory: text.HttpsUrl = Field(LETS_ENCRYPT, description="URL of the CA's ACME directory.")
    ca: text.LocalPath | None = Field(
        None, description="PEM file with the root of a private or a test CA; none: the well-known roots."
    )
    listen: Port = Field(443, description="Port of the site over TLS; the security group opens it.")
    redirect: bool = Field(True, description="Redirect requests on nginx.listen to HTTPS, except app.health.")
    # A browser that has seen it takes no other way for so long: going back to HTTP would shut visitors out.
    hsts: int | None = Field(
        None,
        ge=0,
        le=126144000,
        description="Seconds for which browsers use only HTTPS (Strict-Transport-Security); none: the "
        "header is not sent.",
    )

    @property
    def enabled(self) -> bool:
        """Whether the site has a certificate."""
        return self.acme or self.certificate is not None

    def rules(self, front: str, server_name: str | None, port: int) -> Iterator[Rule]:
        """Yield the rules of a site's certificate. port: nginx.listen."""
        yield "tls", self.enabled and front == "none", "set, but serving.front is none", "serving.front: nginx"
        yield (
            "tls.private_key",
            self.certificate is not None and self.private_key is None,
            "required with tls.certificate",
            "PEM text, or a file with it",
        )
        yield (
            "tls.certificate",
            self.certificate is None and self.private_key is not None,
            "required with tls.private_key",
            "PEM text, or a file with it",
        )
        yield "tls.acme", self.acme and self.certificate is not None, "set beside tls.certificate", "one of them"
        yield (
            "site.server_name",
            self.enabled and server_name is None,
            "required with tls, as a certificate is for a domain",
            "a domain such as www.example.com",
        )
        unproved = server_name is not None and (server_name.startswith("*.") or not any(map(str.isalpha, server_name)))
        yield (
            "site.server_name",
            self.acme and unproved,
            f"a CA that asks on port 80 proves no {server_name}",
            "a domain such as www.example.com, or tls.certificate",
        )
        yield (
            "nginx.listen",
            self.acme and port != 80,
            "the CA that tls.acme asks comes to port 80",
            "80, or tls.certificate",
        )


def unused_rules(sites: Sequence[Tls]) -> Iterator[Rule]:
    """Yield the rules of settings for certificates that no site has. sites: the settings of each."""
    enabled, acme = any(tls.enabled for tls in sites), any(tls.acme for tls in sites)
    for tls in sites:
        for key in Tls.model_fields:
            is_needed = acme if key == "directory" else enabled or key in ("acme", "certificate", "private_key")
            way = "tls.acme: true" if key == "directory" else "tls.certificate, or tls.acme: true"
            is_unused = key in tls.model_fields_set and not is_needed
            yield f"tls.{key}", is_unused, "set, but no site has a certificate by it", way
