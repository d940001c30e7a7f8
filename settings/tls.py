"""What a site's certificate is and how nginx speaks TLS with it."""

from pydantic import Field, SecretStr

from settings import text
from settings.base import Model
from settings.servers import Port

LETS_ENCRYPT = "https://acme-v02.api.letsencrypt.org/directory"


class Tls(Model):
    """One certificate for each domain: given, or asked for by the machine itself (ACME, RFC 8555)."""

    certificate: str | None = Field(
        None, description="The domain's certificate and those between it and its root: PEM text, or a file with it."
    )
    private_key: SecretStr | None = Field(None, description="Its private key: PEM text, or a file with it. A secret.")
    acme: bool = Field(False, description="Have the machine ask a CA for it and renew it; the CA asks back on port 80.")
    directory: text.HttpsUrl = Field(LETS_ENCRYPT, description="The CA's ACME directory.")
    ca: text.LocalPath | None = Field(
        None, description="PEM file with the root of a private or a test CA; none: the roots that everybody knows."
    )
    listen: Port = Field(443, description="Port of the site over TLS; the security group opens it.")
    redirect: bool = Field(True, description="Send what comes to nginx.listen to HTTPS, all but app.health.")
    # A browser that has seen it takes no other way for so long: going back to HTTP would shut visitors out.
    hsts: int | None = Field(
        None, ge=0, le=126144000, description="Seconds for which browsers take HTTPS alone; none: they are not told."
    )

    @property
    def enabled(self) -> bool:
        """Whether the site has a certificate."""
        return self.acme or self.certificate is not None
