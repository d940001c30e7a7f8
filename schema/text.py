"""Text that is safe in the places it goes to: nginx, ini, YAML and shell files.

Every type here is a short list of allowed characters, so that no value can end
its line, its quotes or its block. Each error says what is allowed.
"""

import base64
import binascii
import ipaddress
import re
import sys
from collections.abc import Callable
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator

from contract.paths import ACME_USER, BUILD_USER


def matching(pattern: str, allowed: str) -> Callable[[str], str]:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise ValueError(f"allowed: {allowed}")
        return value

    return check


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in value.split("/"):
        raise ValueError("allowed: a path inside app.source, such as requirements.txt or static")
    return value


def _printable(allowed: str) -> Callable[[str], str]:
    def check(value: str) -> str:
        if not value.isprintable() or not 1 <= len(value) <= 255:
            raise ValueError(f"allowed: {allowed}")
        return value

    return check


def _path(value: str) -> str:
    if re.match("~[^/]", value):
        raise ValueError("the home of another user is not looked for; allowed: a path on this machine, such as ~/file")
    return _printable("a path on this machine, of 255 printable characters at most")(value)


def _module_name(value: str) -> str:
    """Reject a file's name, and gunicorn's form, each with the module that is meant."""
    module, colon, name = value.partition(":")
    meant = module.removesuffix(".py").strip("./").replace("/", ".")
    if meant != value and _is_module(meant):
        callable_ = f", with app.callable: {name}" if colon and name.isidentifier() else ""
        raise ValueError(f"a module has its name in Python; allowed: {meant}{callable_}")
    if not _is_module(value):
        raise ValueError("allowed: a Python module name such as app or mysite.wsgi")
    return value


def _is_module(value: str) -> bool:
    return re.fullmatch(r"(?=.{1,120}$)[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*", value) is not None


def _module(value: str) -> str:
    if value.split(".")[0] == "uwsgi":
        raise ValueError("a module named uwsgi is shadowed by uWSGI's own; allowed: any other name")
    if value.split(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"{value.split('.')[0]} is a module of Python itself; allowed: any other name")
    return value


def _ipv4_network(value: str) -> str:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("allowed: an IPv4 CIDR such as 203.0.113.0/24 or 203.0.113.7/32") from None
    if network.version != 4:
        raise ValueError("IPv6 is not supported yet; allowed: an IPv4 CIDR such as 203.0.113.0/24")
    if "/" not in value or str(network) != value:
        raise ValueError(f"allowed: the network itself, {network}")
    return value


def _timezone(value: str) -> str:
    # Without a database of time zones here only the form can be checked.
    known = available_timezones()
    if not re.fullmatch(r"[A-Za-z0-9_+-]{1,31}(/[A-Za-z0-9_+-]{1,31}){0,2}", value) or (known and value not in known):
        raise ValueError("allowed: a time zone such as Asia/Shanghai or UTC")
    return value


_KEY_TYPES = (
    "ssh-rsa",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
)


def _openssh_key(value: str) -> str:
    """Check one line of OpenSSH's public key format: type, base64 blob, comment (sshd(8))."""
    words = value.strip().split()
    allowed = ValueError(f"allowed: one line of a public key file, starting with {', '.join(_KEY_TYPES)}")
    if "\n" in value.strip() or len(words) < 2 or words[0] not in _KEY_TYPES:
        raise allowed
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (binascii.Error, ValueError):
        raise allowed from None
    name = words[0].encode()
    if blob[: 4 + len(name)] != len(name).to_bytes(4, "big") + name or len(blob) < 40:
        raise allowed
    # Drop the comment, because it is free text that the server does not need.
    return f"{words[0]} {words[1]}"


ModuleName = Annotated[str, AfterValidator(_module_name), AfterValidator(_module)]
Identifier = Annotated[
    str, AfterValidator(matching(r"[A-Za-z_][A-Za-z0-9_]{0,119}", "a Python name such as app or application"))
]
CallableName = Annotated[
    str,
    AfterValidator(
        matching(r"[A-Za-z_][A-Za-z0-9_]{0,119}(\(\))?", "a Python name such as app, or a call such as create_app()")
    ),
]
Timezone = Annotated[str, AfterValidator(_timezone)]
InsidePath = Annotated[
    str,
    AfterValidator(_inside),
    AfterValidator(matching(r"[A-Za-z0-9_.+/-]{1,200}", "letters, digits and _ . + / -")),
]
LocalPath = Annotated[str, AfterValidator(_path)]
Glob = Annotated[str, AfterValidator(_printable("a pattern such as *.log or notes/*"))]
UrlPath = Annotated[
    str,
    # nginx takes // and /./ for /, and the probe would be another place than the one that is let through.
    AfterValidator(
        matching(r"(?![^?]*/(/|\.{1,2}(/|\?|$)))/[A-Za-z0-9._~/%?=&+-]{0,1000}", "a URL path such as /healthz")
    ),
]
AppServer = Annotated[str, AfterValidator(matching(r"app-[1-9][0-9]?", "an app server such as app-1"))]
SiteLocation = Annotated[
    str,
    AfterValidator(matching(r"/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*", "a URL path that ends in /, such as / or /blog/")),
]
Location = Annotated[
    str,
    AfterValidator(matching(r"/([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)+", "a URL path that ends in /, such as /static/")),
]
StaticLocation = Annotated[
    str,
    AfterValidator(
        matching(
            r"/(\.well-known/)?([A-Za-z0-9_~-][A-Za-z0-9._~-]*/)*([A-Za-z0-9_~-][A-Za-z0-9._~-]*/?)",
            "a URL path of a folder such as /static/, or of a file such as /favicon.ico",
        )
    ),
]
ServerName = Annotated[
    str,
    AfterValidator(
        matching(
            r"(?=.{1,253}$)(\*\.)?[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
            r"(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
            "a domain such as www.example.com, *.example.com, or an IPv4 address",
        )
    ),
    # nginx ignores the case of names, so this finds two sites of one name.
    AfterValidator(str.lower),
]
Cidr = Annotated[str, AfterValidator(_ipv4_network)]
PublicKey = Annotated[str, AfterValidator(_openssh_key)]
HostKey = Annotated[str, AfterValidator(_openssh_key)]
EnvName = Annotated[
    str,
    AfterValidator(matching(r"[A-Za-z_][A-Za-z0-9_]{0,254}", "a name such as DATABASE_URL")),
    AfterValidator(matching(r"(?!UWSGI_).*", "a name that does not start with UWSGI_, which uWSGI reads as options")),
]
InstanceType = Annotated[
    str,
    AfterValidator(matching(r"ecs\.[a-z0-9-]+\.[a-z0-9]+", "an instance type such as ecs.e-c1m1.large")),
]
DatabaseClass = Annotated[
    str,
    AfterValidator(
        matching(r"mysql\.[a-z0-9]{1,20}\.[a-z0-9.]{1,40}", "an instance class of RDS such as mysql.n2.medium.2c")
    ),
]
ImageId = Annotated[str, AfterValidator(matching(r"[A-Za-z0-9_.-]{1,100}", "an image id"))]
Zone = Annotated[str, AfterValidator(matching(r"[a-z0-9-]{1,60}", "a zone id such as cn-hangzhou-i"))]
Url = Annotated[
    str,
    AfterValidator(
        matching(
            r"https?://[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?",
            "a URL such as https://mirrors.example.com/pypi/simple/",
        )
    ),
]

RepositoryUrl = Annotated[
    str,
    AfterValidator(
        matching(
            r"https?://[A-Za-z0-9.-]+(:[0-9]+)?((/|\$basearch)([A-Za-z0-9._~/-]|\$basearch)*)?",
            "a URL such as https://mirrors.example.com/epel/8/Everything/$basearch",
        )
    ),
]

HttpsUrl = Annotated[
    str,
    AfterValidator(matching(r"https://[A-Za-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._~/-]*", "a URL that starts with https")),
]


def _host_port(value: str) -> str:
    """An IPv4 address of this machine and an unprivileged port, as uWSGI and gunicorn take them."""
    host, _, port = value.rpartition(":")
    allowed = "allowed: an IPv4 address and a port from 1024 to 65534, such as 127.0.0.1:8080"
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError(allowed) from None
    if not port.isascii() or not port.isdigit() or not 1024 <= int(port) <= 65534 or str(int(port)) != port:
        raise ValueError(allowed)
    if not address.is_loopback and not address.is_unspecified:
        raise ValueError("allowed: 127.0.0.1 or 0.0.0.0, since the machine's own address is not known beforehand")
    return value


def _listen(value: str) -> str:
    if value == "unix":
        return value
    try:
        return _host_port(value)
    except ValueError as error:
        raise ValueError(str(error).replace("allowed: an", "allowed: unix, or an")) from None


HostPort = Annotated[str, AfterValidator(_host_port)]
Listen = Annotated[str, AfterValidator(_listen)]
Mode = Annotated[str, AfterValidator(matching(r"[67][067][067]", "an octal mode such as 660 or 666"))]


def _answers(value: str) -> str:
    if value in ("root", BUILD_USER):
        raise ValueError("this user may change the application, so it answers no requests; allowed: any other")
    if value == ACME_USER:
        raise ValueError("this user has the key of the CA's account, so it answers no requests; allowed: any other")
    return value


User = Annotated[
    str,
    AfterValidator(matching(r"[a-z_][a-z0-9_-]{0,30}", "a user's name such as nginx")),
    AfterValidator(_answers),
]


def _nobody_elses(value: str) -> str:
    """Reject a name whose user wsgi-<name> or group wsgi-<name>-web the machine has already."""
    if f"wsgi-{value}" in (ACME_USER, BUILD_USER) or value.endswith("-web"):
        raise ValueError(f"wsgi-{value} is another user or group of the machine; allowed: any other name")
    return value


def _site_name(value: str) -> str:
    """wsgi-<name>-web is the name of a group, and Linux limits such names to 31 characters."""
    if re.fullmatch(r"[a-z][a-z0-9-]{0,19}", value):
        return value
    meant = re.sub("[^a-z0-9]+", "-", value.lower()).strip("-")
    like = meant if re.fullmatch(r"[a-z][a-z0-9-]{0,19}", meant) else "shop or blog-2"
    raise ValueError(f"allowed: lower-case letters, digits and -, 20 at most, such as {like}")


SiteName = Annotated[
    str,
    AfterValidator(_site_name),
    AfterValidator(_nobody_elses),
]


def _archive(value: str) -> str:
    """A file of this machine, or what the server downloads."""
    return _url(value) if "://" in value else _path(value)


_url = matching(r"https?://[A-Za-z0-9.-]+(:[0-9]+)?/[A-Za-z0-9._~/%+-]+", "a file, or a URL that starts with http")
Archive = Annotated[str, AfterValidator(_archive)]
Sha256 = Annotated[str, AfterValidator(matching(r"[0-9a-f]{64}", "64 digits of lower-case hexadecimal"))]


def version(example: str) -> AfterValidator:
    """A version of a program. example: of its own, as a message shows it."""
    return AfterValidator(matching(r"[0-9][0-9A-Za-z.]{0,30}", f"a version such as {example}"))


Prefix = Annotated[
    str,
    AfterValidator(
        matching(
            r"/(usr/local|opt)/[A-Za-z0-9_][A-Za-z0-9_-]{0,60}", "a folder of /usr/local or /opt such as /opt/nginx"
        )
    ),
]
Size = Annotated[str, AfterValidator(matching(r"[0-9]{1,6}[kKmMgG]?", "a size as nginx writes it, such as 16m"))]
HeaderBuffers = Annotated[
    str, AfterValidator(matching(r"[1-9][0-9]? [1-9][0-9]{0,2}k", "a number and a size, such as 4 8k or 4 16k"))
]
Charset = Annotated[str, AfterValidator(matching(r"[A-Za-z0-9_-]{1,60}", "a charset such as utf-8 or off"))]
Expires = Annotated[
    str,
    AfterValidator(matching(r"[0-9]{1,6}[smhdwMy]|max|epoch|off", "a time such as 30s, 1h or 7d, or max, epoch, off")),
]
MimeType = Annotated[
    str, AfterValidator(matching(r"[a-z0-9-]+/[A-Za-z0-9.+-]+", "a media type such as text/css or application/json"))
]
Rate = Annotated[
    str, AfterValidator(matching(r"[1-9][0-9]{0,5}r/[sm]", "requests in a second or a minute, such as 10r/s or 30r/m"))
]
Directives = Annotated[
    str,
    # What stands between two @@ is a fact that the server fills in.
    AfterValidator(
        matching(r"(?!(?s:.*)@@)[^\0]{1,20000}", "directives of nginx without @@, 20000 characters at most")
    ),
]


def _window(value: str) -> str:
    hour = "([01][0-9]|2[0-3]):[0-5][0-9]"
    start, _, end = value.partition("-")
    if not (re.fullmatch(hour, start) and re.fullmatch(hour, end)) or start == end:
        raise ValueError("allowed: two times of the day such as 02:00-05:00 or 23:30-01:00")
    return value


Window = Annotated[str, AfterValidator(_window)]
ReleaseId = Annotated[
    str, AfterValidator(matching("[0-9a-f]{12}", "an id of ./rehearse releases, in quotes, such as '0123456789ab'"))
]
